"""From a generated text to an answer of the closed set, by two explicit rules; anything else is invalid."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


class AnswerParser:
    """Reads answers out of free text.

    Rule 1: the text is an answer, up to case, white space and punctuation at its ends. Rule 2: exactly one answer
    occurs in it as whole words (an answer inside a longer one that occurs does not count). Otherwise it is invalid.

    Args:
        answers: the texts of the closed set.

    Example:
        >>> parser = AnswerParser(["normal", "pneumonia"])
        >>> parser("Pneumonia."), parser("It looks normal"), parser("normal or pneumonia"), parser("a cat")
        (1, 0, None, None)
    """

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = {normalised(text): index for index, text in enumerate(answers)}
        longest_first = sorted(self.answers, key=len, reverse=True)
        self.pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def __call__(self, text: str) -> int | None:
        """Return the index of the answer, or `None` if the text is no answer."""
        text = normalised(text)
        if text in self.answers:
            return self.answers[text]
        found = set(self.pattern.findall(text))
        return self.answers[found.pop()] if len(found) == 1 else None


def normalised(text: str) -> str:
    """Fold case and white space and strip punctuation at the ends."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return re.sub(r"^[^\w(]+|[^\w)]+$", "", folded) or folded
