"""Brier score, reliability and calibration error against loops, and against models that are calibrated by design."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

import vitask.evaluation.calibration
from vitask.evaluation.calibration import BINS, brier_score, calibration_error, reliability_bins

from .by_loops import decisions, ece_of, mean
from .material import RANDOM, nasty, random_predictions

pytestmark = pytest.mark.filterwarnings("error")


def test_the_example_runs():
    assert doctest.testmod(vitask.evaluation.calibration, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("made", [*(random_predictions(*case, samples=200) for case in RANDOM), *nasty().values()])
def test_the_bins_hold_every_decision_once(made):
    bins = reliability_bins(made.truth, made.scores, made.multi_label)
    expected = decisions(made.truth.tolist(), made.scores.tolist(), made.multi_label)
    assert sum(each["count"] for each in bins) == len(expected)
    confidences = [each["confidence"] for each in bins]
    assert confidences == sorted(confidences)
    total = sum(each["count"] * each["accuracy"] for each in bins)
    assert total / len(expected) == pytest.approx(mean([right for _, right in expected]))
    assert calibration_error(bins) == pytest.approx(ece_of(expected))


@pytest.mark.parametrize("place", range(1, BINS))
def test_a_bin_holds_its_upper_end(place):
    edge = place / BINS
    top = max(edge, 1 - edge)
    scores = np.array([[top, 1 - top], [np.nextafter(top, 1), 1 - np.nextafter(top, 1)]])
    bins = reliability_bins(np.eye(2, dtype=bool), scores, multi_label=False)
    apart = any(top == other / BINS for other in range(BINS))
    assert len(bins) == 1 + apart


def test_certainty_is_in_the_last_bin():
    scores = np.array([[1.0, 0.0], [0.95, 0.05]])
    (only,) = reliability_bins(np.eye(2, dtype=bool), scores, multi_label=False)
    assert only == pytest.approx({"confidence": 0.975, "accuracy": 0.5, "count": 2})


def test_a_model_that_knows_its_chances_is_calibrated_and_one_that_boasts_is_not():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet([0.5] * 4, 20_000)
    drawn = (chances.cumsum(-1) > rng.random((20_000, 1))).argmax(-1)
    truth = np.eye(4, dtype=bool)[drawn]
    honest = calibration_error(reliability_bins(truth, chances, multi_label=False))
    sharper = chances**3 / (chances**3).sum(-1, keepdims=True)
    boastful = calibration_error(reliability_bins(truth, sharper, multi_label=False))
    assert honest < 0.015
    assert boastful > 0.1
    assert brier_score(truth, chances, multi_label=False) < brier_score(truth, sharper, multi_label=False)


def test_the_ends_of_the_brier_score():
    truth = np.eye(3, dtype=bool)
    assert brier_score(truth, truth.astype(float), multi_label=False) == 0
    assert brier_score(truth, np.roll(truth, 1, axis=1).astype(float), multi_label=False) == 2
    assert brier_score(truth, 1 - truth, multi_label=True) == 1


def test_without_numbers_there_are_no_bins():
    assert reliability_bins(np.eye(2, dtype=bool), np.array([[math.nan, 1], [0, 1]]), multi_label=False) == []
    assert math.isnan(calibration_error([]))
