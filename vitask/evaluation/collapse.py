"""Predictions that have collapsed to one answer: what accuracy alone may hide behind a frequent class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 20
"""Samples from which it says something: of fewer, all may well get the same answer."""
SAME, MOST = 0.98, 0.9
"""Share of the predictions that are one answer, and the largest share of the truth that would not explain it."""


def collapse(truth: NDArray[np.bool_], chosen: NDArray[np.bool_], labels: Sequence[str]) -> str | None:
    """Say that nearly all samples get one answer although the truth has others, or return None.

    Args:
        truth: label sets `(N, labels)`.
        chosen: predicted label sets `(N, labels)`.
        labels: their texts.

    Example:
        >>> truth = np.eye(2, dtype=bool)[[0, 1] * 20]
        >>> collapse(truth, np.eye(2, dtype=bool)[[0] * 40], ["cat", "dog"])
        "100% of 40 predictions are 'cat', which is right for 50%: the model has collapsed to one answer"
    """
    if len(truth) < FEWEST:
        return None
    answers, counts = np.unique(chosen, axis=0, return_counts=True)
    answer, share = answers[counts.argmax()], counts.max() / len(chosen)
    right = (truth == answer).all(-1).mean()
    if share < SAME or right > MOST:
        return None
    text = ", ".join(labels[label] for label in np.flatnonzero(answer)) or "no label"
    return (
        f"{share:.0%} of {len(chosen)} predictions are '{text}', which is right for {right:.0%}: "
        "the model has collapsed to one answer"
    )
