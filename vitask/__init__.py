"""VITask: adapt a vision language model to a narrow task (Bai et al., arXiv 2410.06456)."""

__version__ = "0.1.0"
