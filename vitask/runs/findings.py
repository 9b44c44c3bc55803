"""One thing that `vitask doctor` looked at, and what it found."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was looked at, and how it is.

    Attributes:
        state: `ok`, `note` (worth knowing) or `wrong`.
        check: what was looked at.
        text: in words.
    """

    state: str
    check: str
    text: str


def ok(check: str, text: str) -> Finding:
    """Say that something is as it should be."""
    return Finding("ok", check, text)


def note(check: str, text: str) -> Finding:
    """Say what is worth knowing."""
    return Finding("note", check, text)


def wrong(check: str, text: str) -> Finding:
    """Say what will stop the run, or make it worthless."""
    return Finding("wrong", check, text)


def in_bytes(count: float) -> str:
    """Write a number of bytes.

    Example:
        >>> in_bytes(1.4e6)
        '1.4 MB'
    """
    power = min(4, max(0, math.floor(math.log10(max(count, 1)) / 3)))
    return f"{count / 1000**power:.{1 if power else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
