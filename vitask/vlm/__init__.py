"""The exemplar-prompting VLM."""
