"""Metrics against values worked out by hand and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from vitask.evaluation.metrics import label_metrics, set_metrics

ROWS = np.eye(4, dtype=bool)
NOTHING = np.zeros(4, dtype=bool)


def one_hot(labels) -> np.ndarray:
    """Rows of sets; None is an answer that is no label."""
    return np.stack([NOTHING if label is None else ROWS[label] for label in labels])


@pytest.mark.parametrize(
    ("truth", "predicted", "accuracy", "f1"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], 1, [1, 1, 1, 1]),
        ([0, 0, 1, 1, 2, 3], [0, 1, 1, 1, 2, 2], 4 / 6, [2 / 3, 4 / 5, 2 / 3, 0]),  # 3 is never predicted
        ([0, 0, 1, 2], [0, 0, 1, 2], 1, [1, 1, 1, 0]),  # 3 occurs nowhere and still counts
        ([0, 0, 1, 2], [0, 3, 1, 2], 3 / 4, [2 / 3, 1, 1, 0]),  # 3 is predicted only
        ([0, 1, 2, 3], [None, 1, None, 3], 2 / 4, [0, 1, 0, 1]),  # invalid answers add no fifth class
        ([0, 1, 2, 3], [None] * 4, 0, [0, 0, 0, 0]),
    ],
)
def test_accuracy_and_macro_f1_over_the_fixed_label_set(truth, predicted, accuracy, f1):
    metrics = set_metrics(one_hot(truth), one_hot(predicted))
    assert metrics == pytest.approx({"accuracy": accuracy, "macro_f1": sum(f1) / 4})


def test_label_sets_count_as_right_only_when_exactly_right():
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], dtype=bool)
    predicted = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    assert set_metrics(truth, predicted) == pytest.approx({"accuracy": 2 / 3, "macro_f1": 2 / 3})


def auc_by_loops(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean over labels of the share of (positive, negative) pairs in the right order, ties half."""
    values = []
    for label in range(truth.shape[1]):
        positives, negatives = scores[truth[:, label], label], scores[~truth[:, label], label]
        pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
        values.append(sum(pairs) / len(pairs))
    return float(np.mean(values))


def random_scores(multi_label: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 4, generator=generator)
    if multi_label:
        targets = (torch.rand(40, 4, generator=generator) < 0.4).float()
        return targets, (scores + targets).sigmoid().mul(20).round().div(20)
    targets = torch.randint(0, 4, (40,), generator=generator)
    return targets, (scores + torch.eye(4)[targets]).softmax(-1)


def test_single_label_metrics_equal_loops():
    targets, probabilities = random_scores(multi_label=False)
    metrics = label_metrics(targets, probabilities, multi_label=False)
    predicted = probabilities.argmax(-1)
    f1 = []
    for label in range(4):
        hits = int(((predicted == label) & (targets == label)).sum())
        f1.append(2 * hits / int((predicted == label).sum() + (targets == label).sum()))
    assert metrics["accuracy"] == pytest.approx((predicted == targets).float().mean().item())
    assert metrics["macro_f1"] == pytest.approx(np.mean(f1))
    assert metrics["auc"] == pytest.approx(auc_by_loops(np.eye(4, dtype=bool)[targets], probabilities.numpy()))
    assert metrics["auc"] == pytest.approx(roc_auc_score(targets, probabilities, multi_class="ovr"), abs=1e-6)
    likelihood = [math.log(row[target]) for row, target in zip(probabilities, targets, strict=True)]
    assert metrics["log_likelihood"] == pytest.approx(np.mean(likelihood), rel=1e-5)


def test_multi_label_metrics_equal_loops():
    targets, probabilities = random_scores(multi_label=True)
    metrics = label_metrics(targets, probabilities, multi_label=True)
    truth, predicted = targets.bool(), probabilities > 0.5
    assert metrics["accuracy"] == pytest.approx((truth == predicted).all(-1).float().mean().item())
    hits, total = (truth & predicted).sum(0), truth.sum(0) + predicted.sum(0)
    assert metrics["macro_f1"] == pytest.approx((2 * hits / total).mean().item())
    assert metrics["auc"] == pytest.approx(auc_by_loops(truth.numpy(), probabilities.numpy()))
    chosen = torch.where(truth, probabilities, 1 - probabilities).clip(1e-12)
    assert metrics["log_likelihood"] == pytest.approx(chosen.double().log().sum(-1).mean().item(), rel=1e-5)


def test_auc_is_nan_without_a_positive_of_some_label_and_nothing_else_is():
    metrics = label_metrics(torch.tensor([0, 1, 1]), torch.eye(3)[[0, 1, 1]], multi_label=False)
    assert math.isnan(metrics.pop("auc"))
    assert metrics == pytest.approx({"accuracy": 1, "macro_f1": 2 / 3, "log_likelihood": 0})


def test_probability_zero_has_a_finite_likelihood():
    metrics = label_metrics(torch.tensor([0, 1]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), multi_label=False)
    assert math.isfinite(metrics["log_likelihood"])
    assert metrics["log_likelihood"] < -10
