"""How a typed option says which values it takes; `vitask.config.compose.checked` reads it."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from omegaconf import MISSING


def one_of(*choices: str) -> Any:
    """Declare a text option with a fixed set of values."""
    return field(default=MISSING, metadata={"choices": choices})


def within(low: float, high: float | None = None, default: Any = MISSING) -> Any:
    """Declare a number option with a range, ends included; runs from before it was there have its default."""
    return field(default=default, metadata={"range": (low, high)})


def folder_word() -> Any:
    """Declare a text option that becomes part of a folder's name."""
    return field(default=MISSING, metadata={"pattern": r"\w[\w. -]*"})
