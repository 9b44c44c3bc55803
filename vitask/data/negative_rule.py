"""What counts as a negative in an open-ended task: another image, and a response that is different enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitask.data.responses import comparable


class NegativeRule:
    """Tells which training samples may serve as the negative of one, as far as images and responses go.

    Args:
        responses: The response of every training sample, ``(N,)``.
        pictures: Equal names mean the same image, ``(N,)``; an image is never its own negative.
        max_overlap: The token F1 (see `token_f1`) that a negative's response must stay below; None: any response that
            is another one up to case, spaces and punctuation.

    Example:
        >>> rule = NegativeRule(["a red cat", "a red dog", "two birds"], ["0.png", "1.png", "2.png"], max_overlap=0.5)
        >>> rule(0, [0, 1, 2])
        array([False, False,  True])
    """

    def __init__(self, responses: Sequence[str], pictures: Sequence[str], max_overlap: float | None = None) -> None:
        distinct: dict[str, int] = {}
        texts = {text: comparable(text) for text in dict.fromkeys(responses)}
        self._responses = np.array([distinct.setdefault(texts[text], len(distinct)) for text in responses], dtype=int)
        self._pictures = np.unique(pictures, return_inverse=True)[1]
        self.max_overlap = max_overlap
        if max_overlap is not None:
            self._words, self._lengths = _words(list(distinct))

    def __call__(self, sample: int, others: Sequence[int] | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return for each of some training samples whether it may be a negative of ``sample``."""
        others = np.asarray(others)
        own, theirs = self._responses[sample], self._responses[others]
        fits = (theirs != own) & (self._pictures[others] != self._pictures[sample])
        if self.max_overlap is None or not fits.any():
            return fits
        shared = np.asarray((self._words[theirs] @ self._words[own].T).todense()).ravel()
        return fits & (2 * shared < self.max_overlap * (self._lengths[theirs] + self._lengths[own]))


def _words(texts: Sequence[str]) -> tuple[Any, NDArray[np.integer]]:
    """Return which words each text holds, sparse 0/1 ``(N, words)``, and how many; a word's second use is another one.

    So the product of two rows counts the words that two texts share, repeated ones as often as both have them.
    """
    from scipy.sparse import csr_matrix

    places: dict[tuple[str, int], int] = {}
    columns, ends = [], [0]
    for text in texts:
        for word, count in Counter(text.split()).items():
            columns += [places.setdefault((word, use), len(places)) for use in range(count)]
        ends.append(len(columns))
    shape = (len(texts), max(1, len(places)))
    return csr_matrix((np.ones(len(columns), dtype=np.int64), columns, ends), shape=shape), np.diff(ends)
