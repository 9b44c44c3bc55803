"""Metrics against values worked out by hand and against plain loops; warnings are errors."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch

import vitask.evaluation.metrics
from vitask.evaluation.metrics import (
    Predictions,
    class_metrics,
    confusions,
    grade_metrics,
    label_metrics,
    predictions_of,
    score_metrics,
    set_metrics,
)

from .by_loops import auc_of, f1_of, figures_by_loops, rate
from .material import RANDOM, nasty, random_predictions, random_targets

pytestmark = pytest.mark.filterwarnings("error")

ROWS = np.eye(4, dtype=bool)
NOTHING = np.zeros(4, dtype=bool)
GRADES = np.eye(5, dtype=bool)


def one_hot(labels) -> np.ndarray:
    """Rows of sets; None is an answer that is no label."""
    return np.stack([NOTHING if label is None else ROWS[label] for label in labels])


def test_the_examples_run():
    assert doctest.testmod(vitask.evaluation.metrics, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize(
    ("truth", "chosen", "accuracy", "balanced", "f1"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], 1, 1, [1, 1, 1, 1]),
        ([0, 0, 1, 1, 2, 3], [0, 1, 1, 1, 2, 2], 4 / 6, 2.5 / 4, [2 / 3, 4 / 5, 2 / 3, 0]),  # 3 is never predicted
        ([0, 0, 1, 2], [0, 0, 1, 2], 1, 1, [1, 1, 1, 0]),  # 3 occurs nowhere and still counts in the F1
        ([0, 0, 1, 2], [0, 3, 1, 2], 3 / 4, 2.5 / 3, [2 / 3, 1, 1, 0]),  # 3 is predicted only
        ([0, 1, 2, 3], [None, 1, None, 3], 2 / 4, 2 / 4, [0, 1, 0, 1]),  # invalid answers add no fifth class
        ([0, 1, 2, 3], [None] * 4, 0, 0, [0, 0, 0, 0]),
    ],
)
def test_figures_over_the_fixed_label_set(truth, chosen, accuracy, balanced, f1):
    metrics = set_metrics(Predictions(one_hot(truth), one_hot(chosen), multi_label=False))
    weighted = sum(f1[label] for label in truth) / len(truth)
    expected = {"accuracy": accuracy, "balanced_accuracy": balanced, "macro_f1": sum(f1) / 4, "weighted_f1": weighted}
    assert metrics == pytest.approx(expected)


def test_label_sets_count_as_right_only_when_exactly_right():
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], dtype=bool)
    chosen = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    metrics = set_metrics(Predictions(truth, chosen, multi_label=True))
    expected = {"accuracy": 2 / 3, "balanced_accuracy": 2.5 / 3, "macro_f1": 2 / 3, "weighted_f1": 3 / 4}
    assert metrics == pytest.approx(expected)


@pytest.mark.parametrize(("seed", "multi_label"), RANDOM)
def test_every_figure_equals_loops(seed, multi_label):
    targets, probabilities = random_targets(seed, multi_label)
    made = predictions_of(targets, probabilities, multi_label)
    expected = figures_by_loops(made.truth, made.chosen, made.scores, multi_label)
    assert label_metrics(predictions_of(targets, probabilities, multi_label)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", nasty())
def test_what_is_not_defined_is_nan_and_nothing_else_is(name):
    made = nasty()[name]
    expected = figures_by_loops(made.truth, made.chosen, made.scores, made.multi_label)
    found = {**set_metrics(made), **score_metrics(made)}
    assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)
    never = {"accuracy", "balanced_accuracy", "macro_f1", "log_likelihood", "brier", "ece", "label_accuracy"}
    assert all(math.isfinite(value) for key, value in found.items() if key in never)


def test_chosen_sets_go_before_the_threshold():
    """A VLM answers with its likeliest label set; what the thresholded labels say is `label_accuracy` alone."""
    targets, probabilities = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.4], [0.3, 0.9]])
    metrics = label_metrics(predictions_of(targets, probabilities, multi_label=True))
    assert (metrics["accuracy"], metrics["label_accuracy"]) == (0.5, 0.75)
    chosen = np.array([[1, 1], [0, 1]], dtype=bool)
    made = predictions_of(targets, probabilities, multi_label=True, chosen=chosen)
    assert (set_metrics(made)["accuracy"], score_metrics(made)["label_accuracy"]) == (1.0, 0.75)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_probabilities_that_are_no_numbers_end_in_nan(value):
    scores = torch.tensor([[0.5, 0.5], [value, 0.5], [0.1, 0.9]])
    metrics = label_metrics(predictions_of(torch.tensor([0, 1, 1]), scores, multi_label=False))
    assert all(math.isnan(metrics[name]) for name in ("auc", "average_precision", "ece"))
    assert math.isfinite(metrics["accuracy"])


def test_probability_zero_has_a_finite_likelihood():
    metrics = label_metrics(
        predictions_of(torch.tensor([0, 1]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), multi_label=False)
    )
    assert math.isfinite(metrics["log_likelihood"])
    assert metrics["log_likelihood"] < -10


@pytest.mark.parametrize("known", [[0, 1, 2, 3, 4], [0, 1, 4], [0, 4]])
@pytest.mark.parametrize("seed", range(3))
def test_grades_equal_loops(seed, known):
    """Whether every grade occurs or not: their distances stay what they are."""
    truth, chosen = np.random.default_rng(seed).choice(known, (2, 30))
    metrics = grade_metrics(Predictions(GRADES[truth], GRADES[chosen], multi_label=False))
    seen = sum((a - b) ** 2 for a, b in zip(truth, chosen, strict=True)) / 30
    by_chance = sum((a - b) ** 2 for a in truth for b in chosen) / 900
    assert metrics["mae"] == pytest.approx(sum(abs(a - b) for a, b in zip(truth, chosen, strict=True)) / 30)
    assert metrics["kappa"] == pytest.approx(1 - seen / by_chance)


@pytest.mark.parametrize(
    ("truth", "chosen", "kappa", "mae"),
    [([3, 3], [3, 3], math.nan, 0), ([3], [3], math.nan, 0), ([1], [4], 0, 3), ([2, 2], [2, 4], 0, 1)],
)
def test_grades_without_spread(truth, chosen, kappa, mae):
    metrics = grade_metrics(Predictions(GRADES[truth], GRADES[chosen], multi_label=False))
    assert metrics == pytest.approx({"kappa": kappa, "mae": mae}, nan_ok=True)


@pytest.mark.parametrize("made", [*(random_predictions(*case) for case in RANDOM), *nasty().values()])
def test_each_label_alone_equals_loops(made):
    labels = [f"label {number}" for number in range(made.truth.shape[1])]
    found = class_metrics(made, labels)
    assert list(found) == labels
    for label, truth, chosen, scores in zip(labels, made.truth.T, made.chosen.T, made.scores.T, strict=True):
        expected = {
            "precision": rate(chosen, truth, True),
            "recall": rate(truth, chosen, True),
            "f1": f1_of(truth.tolist(), chosen.tolist()),
            "support": truth.sum(),
            "auc": auc_of(truth.tolist(), scores.tolist()),
        }
        assert found[label] == pytest.approx(expected, nan_ok=True)
    assert np.mean([each["f1"] for each in found.values()]) == pytest.approx(set_metrics(made)["macro_f1"])


def test_the_confusion_counts_truth_by_row_and_answer_by_column():
    made = Predictions(one_hot([0, 0, 0, 2, 3]), one_hot([0, 1, 1, 2, 0]), multi_label=False)
    assert confusions(made, "abcd") == {"confusion": [[1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]}


def test_with_several_labels_each_has_a_confusion_of_no_and_yes():
    truth, chosen = np.array([[1, 0], [1, 0], [0, 0]], dtype=bool), np.array([[1, 1], [0, 0], [0, 0]], dtype=bool)
    found = confusions(Predictions(truth, chosen, multi_label=True), ["a", "b"])
    assert found == {"confusion_by_label": {"a": [[1, 0], [1, 1]], "b": [[2, 1], [0, 0]]}}
