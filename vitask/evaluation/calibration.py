"""Whether a probability of 0.8 comes true in 8 of 10 cases: Brier score, reliability and calibration error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

BINS = 15
"""Equal-width bins of confidence, as many as in Guo et al. (2017)."""


def brier_score(truth: np.ndarray, scores: np.ndarray, multi_label: bool) -> float:
    """Return the mean squared error of the probabilities, 0 at best.

    Args:
        truth: bool `(N, labels)`.
        scores: probabilities `(N, labels)`, over the labels, or of each label.
        multi_label: which of the two it is. Over the labels the squares are summed, so 2 is the worst (Brier, 1950);
            otherwise they are averaged, so 1 is.
    """
    squares = (scores - truth) ** 2
    return float(squares.mean() if multi_label else squares.sum(-1).mean())


def reliability_bins(truth: np.ndarray, scores: np.ndarray, multi_label: bool) -> list[dict[str, float]]:
    """Sort decisions by their confidence into bins, and say how often those of each bin are right.

    Args:
        truth: bool `(N, labels)`.
        scores: probabilities `(N, labels)`. With one label a sample a decision is its likeliest label; with several
            every label is a decision, yes or no.
        multi_label: which of the two it is.

    Returns:
        For each bin that holds decisions its mean `confidence`, their `accuracy` and their `count`. A bin holds its
        upper end. Where a probability is no number there are none.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    if not np.isfinite(scores).all():
        return []
    if multi_label:
        confidence, right = np.maximum(scores, 1 - scores).ravel(), ((scores > 0.5) == truth).ravel()
    else:
        confidence, right = scores.max(-1), truth[np.arange(len(truth)), scores.argmax(-1)]
    places = np.digitize(confidence, np.arange(1, BINS) / BINS, right=True)
    return [
        {
            "confidence": float(confidence[places == place].mean()),
            "accuracy": float(right[places == place].mean()),
            "count": int((places == place).sum()),
        }
        for place in np.unique(places)
    ]


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy, by count; NaN without bins.

    Example:
        >>> calibration_error([{"confidence": 0.9, "accuracy": 0.7, "count": 3}])
        0.2...
    """
    total = sum(each["count"] for each in bins)
    gaps = sum(each["count"] * abs(each["confidence"] - each["accuracy"]) for each in bins)
    return gaps / total if total else math.nan
