"""The figures again, by plain loops over Python numbers, sample by sample and label by label."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

NAN = math.nan


def figures_by_loops(truth, chosen, scores, multi_label: bool) -> dict[str, float]:
    """Every figure of `set_metrics` and `score_metrics`.

    Args:
        truth: the labels of each sample, bool `(N, labels)`.
        chosen: the answers, alike.
        scores: probabilities `(N, labels)`.
        multi_label: whether a sample may have any number of labels.
    """
    truth, chosen, scores = np.asarray(truth).tolist(), np.asarray(chosen).tolist(), np.asarray(scores).tolist()
    labels = range(len(truth[0]))
    columns = [[list(column) for column in zip(*rows, strict=True)] for rows in (truth, chosen, scores)]
    f1 = [f1_of(columns[0][k], columns[1][k]) for k in labels]
    support = [sum(columns[0][k]) for k in labels]
    figures = {
        "accuracy": mean([a == b for a, b in zip(truth, chosen, strict=True)]),
        "macro_f1": mean(f1),
        "weighted_f1": sum(f * n for f, n in zip(f1, support, strict=True)) / sum(support) if sum(support) else NAN,
        "auc": mean([auc_of(columns[0][k], columns[2][k]) for k in labels]),
        "average_precision": mean([average_precision_of(columns[0][k], columns[2][k]) for k in labels]),
        "log_likelihood": mean([log_likelihood(t, p, multi_label) for t, p in zip(truth, scores, strict=True)]),
        "ece": ece_of(decisions(truth, scores, multi_label)),
    }
    recalls = [[rate(columns[0][k], columns[1][k], value) for value in (True, False)] for k in labels]
    squares = [sum((q - y) ** 2 for y, q in zip(t, p, strict=True)) for t, p in zip(truth, scores, strict=True)]
    if multi_label:
        each = [mean([recall for recall in pair if not math.isnan(recall)]) for pair in recalls]
        right = [(q > 0.5) == y for t, p in zip(truth, scores, strict=True) for y, q in zip(t, p, strict=True)]
        return {
            **figures,
            "balanced_accuracy": mean(each),
            "label_accuracy": mean(right),
            "brier": mean(squares) / len(labels),
        }
    known = [recall for recall, _ in recalls if not math.isnan(recall)]
    return {**figures, "balanced_accuracy": mean(known), "brier": mean(squares)}


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def rate(truth, chosen, value: bool) -> float:
    """How many of those with a value are answered so."""
    answers = [b for a, b in zip(truth, chosen, strict=True) if a == value]
    return mean([b == value for b in answers]) if answers else NAN


def f1_of(truth, chosen) -> float:
    hits = sum(a and b for a, b in zip(truth, chosen, strict=True))
    return 2 * hits / (sum(truth) + sum(chosen)) if sum(truth) + sum(chosen) else 0.0


def auc_of(truth, scores) -> float:
    """The share of (positive, negative) pairs in the right order, ties half."""
    positives = [p for t, p in zip(truth, scores, strict=True) if t]
    negatives = [p for t, p in zip(truth, scores, strict=True) if not t]
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    return mean(pairs) if pairs else NAN


def average_precision_of(truth, scores) -> float:
    """Precision at every threshold, weighted by the recall that it adds."""
    if not sum(truth):
        return NAN
    total = before = 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [t for t, p in zip(truth, scores, strict=True) if p >= threshold]
        total += (sum(found) / sum(truth) - before) * mean(found)
        before = sum(found) / sum(truth)
    return total


def log_likelihood(truth, scores, multi_label: bool) -> float:
    chances = [q if y else 1 - q for y, q in zip(truth, scores, strict=True) if multi_label or y]
    return sum(math.log(max(chance, 1e-12)) for chance in chances)


def decisions(truth, scores, multi_label: bool) -> list[tuple[float, bool]]:
    """Confidence of each decision, and whether it is right."""
    if multi_label:
        pairs = [(y, q) for t, p in zip(truth, scores, strict=True) for y, q in zip(t, p, strict=True)]
        return [(max(q, 1 - q), (q > 0.5) == y) for y, q in pairs]
    return [(max(p), t[p.index(max(p))]) for t, p in zip(truth, scores, strict=True)]


def ece_of(made: list[tuple[float, bool]], bins: int = 15) -> float:
    total = 0.0
    for place in range(bins):
        inside = [each for each in made if place / bins < each[0] <= (place + 1) / bins]
        if inside:
            gap = mean([right for _, right in inside]) - mean([confidence for confidence, _ in inside])
            total += len(inside) / len(made) * abs(gap)
    return total
