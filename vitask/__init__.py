"""VITask: adapt a vision language model to a narrow task (Bai et al., arXiv 2410.06456).

From Python: `vitask.train`, `vitask.evaluate`, `vitask.compose`, and of a finished run `vitask.Classifier` or
`vitask.Answerer`; they are loaded when they are asked for.
"""

import logging
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from vitask.api import Answerer, Classifier, Prediction, compose, evaluate, train

__version__ = "0.1.0"
__all__ = [
    "Answerer",
    "Classifier",
    "Prediction",
    "UsageError",
    "VitaskError",
    "__version__",
    "compose",
    "evaluate",
    "train",
]

logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)  # it speaks of kernels at every start on a CPU


def __getattr__(name: str) -> Any:
    """Load the Python interface on first use; `import vitask` alone stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'vitask' has no attribute '{name}'")
    from vitask import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """Name what `from vitask import ...` gives, and the rooms that are loaded."""
    return sorted({*globals(), *__all__})
