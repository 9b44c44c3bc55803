"""From a generated text to an answer of the closed set, by two explicit rules; anything else is invalid."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence


class AnswerParser:
    """Reads answers out of free text.

    Rule 1: the text is an answer, up to case, white space and punctuation at its ends. Rule 2: exactly one answer
    occurs in it as whole words (an answer inside a longer one that occurs does not count). Otherwise it is invalid.
    Answers that differ only by punctuation at their ends (`A+` and `A-`) are read with it.

    Args:
        answers: the texts of the closed set.
        synonyms: other texts for each answer; an answer's own text goes before somebody else's synonym.

    Example:
        >>> parser = AnswerParser(["normal", "pneumonia"])
        >>> parser("Pneumonia."), parser("It looks normal"), parser("normal or pneumonia"), parser("a cat")
        (1, 0, None, None)
    """

    def __init__(self, answers: Sequence[str], synonyms: Sequence[Sequence[str]] = ()) -> None:
        shared = Counter(map(normalised, answers))
        self.answers = {normalised(other): index for index, others in enumerate(synonyms) for other in others}
        self.answers |= {
            normalised(text) if shared[normalised(text)] == 1 else folded(text): index
            for index, text in enumerate(answers)
        }
        longest_first = sorted(self.answers, key=len, reverse=True)
        self.pattern = re.compile(rf"(?<!\w)(?=({'|'.join(map(re.escape, longest_first))})(?!\w))")

    def __call__(self, text: str) -> int | None:
        """Return the index of the answer, or `None` if the text is no answer."""
        for form in (folded(text), normalised(text)):
            if form in self.answers:
                return self.answers[form]
        found, reach = set(), 0
        for match in self.pattern.finditer(folded(text)):  # overlapping, as the pattern only looks ahead
            if match.end(1) > reach:
                found.add(match[1])
                reach = match.end(1)
        meant = {self.answers[text] for text in found}
        return meant.pop() if len(meant) == 1 else None


def folded(text: str) -> str:
    """Fold case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalised(text: str) -> str:
    """Fold case and white space and strip punctuation at the ends."""
    return re.sub(r"^[^\w(]+|[^\w)]+$", "", folded(text)) or folded(text)
