"""When two responses in words say the same: up to case, spaces and punctuation, or by the words that they share."""

from __future__ import annotations

import unicodedata
from collections import Counter


def comparable(text: str) -> str:
    """Fold case and white space and take punctuation out, but for marks between two digits.

    A text of punctuation alone stays as it is.

    Example:
        >>> comparable(" A red  circle, at the TOP."), comparable("3.5 mm")
        ('a red circle at the top', '3.5 mm')
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if _is_mark(text, place) else letter for place, letter in enumerate(text))
    return " ".join(kept.split()) or " ".join(text.split())


def token_f1(given: str, right: str) -> float:
    """Return the harmonic mean of precision and recall of the words given, repeated words counted, in [0, 1].

    Example:
        >>> token_f1("a red circle", "A small red circle.")
        0.857...
    """
    said, wanted = Counter(comparable(given).split()), Counter(comparable(right).split())
    shared = sum((said & wanted).values())
    total = sum(said.values()) + sum(wanted.values())
    return 2 * shared / total if total else 1.0


def _is_mark(text: str, place: int) -> bool:
    if not unicodedata.category(text[place]).startswith("P"):
        return False
    return not (0 < place < len(text) - 1 and text[place - 1].isdigit() and text[place + 1].isdigit())
