"""Intervals and paired tests: against loops, scipy and simulations of which the truth is known."""

from __future__ import annotations

import doctest
import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import bootstrap

import vitask.evaluation.uncertainty as module
from vitask.evaluation.metrics import Predictions
from vitask.evaluation.uncertainty import (
    bootstrap_intervals,
    mcnemar,
    paired_bootstrap,
    paired_ratios,
    percentile_interval,
    weighted_figures,
)

from .by_loops import figures_by_loops
from .material import RANDOM, nasty, random_predictions

pytestmark = pytest.mark.filterwarnings("error")

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "auc")


def test_the_example_runs():
    assert doctest.testmod(module).failed == 0


def picked(made: Predictions, rows) -> Predictions:
    return Predictions(made.truth[rows], made.chosen[rows], made.multi_label, made.scores[rows])


@pytest.mark.parametrize("made", [*(random_predictions(*case) for case in RANDOM), *nasty().values()])
def test_the_figures_of_a_draw_are_those_of_its_samples(made):
    samples = len(made.truth)
    drawn = np.random.default_rng(1).integers(samples, size=(6, samples))
    drawn[0] = np.arange(samples)
    counts = np.stack([np.bincount(rows, minlength=samples) for rows in drawn]).astype(np.float32)
    found = weighted_figures(made, counts)
    for draw, rows in enumerate(drawn):
        own = picked(made, rows)
        expected = figures_by_loops(own.truth, own.chosen, own.scores, own.multi_label)
        assert {name: found[name][draw] for name in FIGURES} == pytest.approx(
            {name: expected[name] for name in FIGURES}, rel=1e-12, nan_ok=True
        )


@pytest.mark.parametrize(("seed", "multi_label"), RANDOM)
def test_intervals_are_those_of_scipy(seed, multi_label):
    made = random_predictions(seed, multi_label, samples=80)
    found = bootstrap_intervals(made, resamples=4000)

    def statistic(rows, axis=-1):
        counts = np.stack([np.bincount(each, minlength=80) for each in np.atleast_2d(rows)])
        return np.squeeze(weighted_figures(made, counts.astype(float))[name])

    for name in FIGURES:
        options = {"n_resamples": 4000, "method": "percentile", "vectorized": True}
        expected = bootstrap((np.arange(80),), statistic, random_state=np.random.default_rng(7), **options)
        assert found[name] == pytest.approx(list(expected.confidence_interval), abs=0.016), name
    assert found == bootstrap_intervals(made, resamples=4000), "the same draws every time"


@pytest.mark.parametrize("name", nasty())
def test_intervals_of_nasty_splits_hold_the_figure_or_are_not_defined(name):
    made = nasty()[name]
    found = bootstrap_intervals(made)
    whole = weighted_figures(made, np.ones((1, len(made.truth))))
    for figure, (low, high) in found.items():
        if len(made.truth) == 1 or math.isnan(whole[figure][0]):
            assert math.isnan(low)
            assert math.isnan(high)
        else:
            assert low <= high
            assert 0 <= low <= 1
            assert 0 <= high <= 1


def test_drawing_in_parts_changes_nothing(monkeypatch):
    made = random_predictions(0, False, samples=50)
    whole = bootstrap_intervals(made)
    monkeypatch.setattr(module, "VALUES", 333)
    assert bootstrap_intervals(made) == whole


def test_numbers_alone_make_an_interval():
    values = np.array([math.nan, *range(41), math.nan])
    assert percentile_interval(values) == pytest.approx([1, 39])
    assert all(math.isnan(end) for end in percentile_interval(np.array([math.nan])))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Two classes, scores normal with means 0 and 1.2: every figure of the population is known."""
    rng, normal, repeats, samples = np.random.default_rng(0), NormalDist(), 400, 120
    shift, cut = 1.2, 0.6
    right = normal.cdf(cut)  # of either class, as the cut is in the middle
    population = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), right)
    population["auc"] = normal.cdf(shift / math.sqrt(2))
    held = dict.fromkeys(FIGURES, 0)
    for _ in range(repeats):
        labels = rng.integers(2, size=samples)
        values = rng.normal(size=samples) + shift * labels
        scores = 1 / (1 + np.exp(-np.stack([cut - values, values - cut], axis=-1)))
        made = Predictions(np.eye(2, dtype=bool)[labels], np.eye(2, dtype=bool)[(values > cut) * 1], False, scores)
        for name, (low, high) in bootstrap_intervals(made, resamples=400).items():
            held[name] += low <= population[name] <= high
    rates = {name: count / repeats for name, count in held.items()}
    print(rates)
    assert all(0.915 <= rate <= 0.975 for rate in rates.values()), rates


def two_models(rng, samples: int, gain: float) -> tuple[Predictions, Predictions]:
    """Two models of three classes that err together; the first is right more often by `gain`."""
    truth, wrong, luck = rng.integers(3, size=samples), rng.integers(1, 3, size=samples), rng.random(samples)
    own_luck = np.where(rng.random(samples) < 0.6, luck, rng.random(samples))
    answers = [np.where(drawn < chance, truth, (truth + wrong) % 3) for drawn, chance in
               ((own_luck, 0.6 + gain), (luck, 0.6))]  # fmt: skip
    classes = np.eye(3, dtype=bool)
    return tuple(Predictions(classes[truth], classes[each], multi_label=False) for each in answers)


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "least", "most"), [(0.0, 0.0, 0.1), (0.25, 0.9, 1.0)])
def test_without_a_difference_few_comparisons_find_one_and_with_one_most_do(gain, least, most):
    rng, p_values, held = np.random.default_rng(0), [], []
    for _ in range(200):
        own, base = two_models(rng, 100, gain)
        found = paired_bootstrap(own, base, resamples=500)
        exact = mcnemar(*((each.truth == each.chosen).all(-1) for each in (own, base)))
        p_values.append([found["accuracy"]["p"], found["macro_f1"]["p"], exact["p"]])
        low, high = found["accuracy"]["interval"]
        held.append(low <= gain <= high)
    rates = np.mean(np.array(p_values) < 0.05, axis=0)
    print(rates, np.mean(held))
    assert all(least <= rate <= most for rate in rates), rates
    assert 0.9 <= np.mean(held) <= 0.985


@pytest.mark.parametrize(("seed", "multi_label"), RANDOM)
def test_a_paired_comparison_is_the_bootstrap_of_the_differences(seed, multi_label):
    own, base = (random_predictions(seed + 10 * model, multi_label, samples=60) for model in (0, 1))
    base = Predictions(own.truth, base.chosen, multi_label)
    found = paired_bootstrap(own, base)
    rows = np.random.default_rng(5).integers(60, size=(800, 60))
    for name in ("accuracy", "macro_f1"):
        whole = [figures_by_loops(own.truth, each.chosen, own.scores, multi_label)[name] for each in (own, base)]
        assert found[name]["difference"] == pytest.approx(whole[0] - whole[1])
        counts = np.stack([np.bincount(each, minlength=60) for each in rows]).astype(float)
        gains = weighted_figures(own, counts)[name] - weighted_figures(base, counts)[name]
        assert found[name]["interval"] == pytest.approx(list(np.quantile(gains, [0.025, 0.975])), abs=0.03)
        tail = min(np.mean(gains <= 0), np.mean(gains >= 0))
        assert found[name]["p"] == pytest.approx(min(1, 2 * tail), abs=0.1)


def test_equal_answers_differ_by_nothing():
    made = random_predictions(0, False)
    found = paired_bootstrap(made, made)
    assert found["accuracy"] == found["macro_f1"] == {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0}


def test_a_model_that_is_always_better_has_the_smallest_p_that_the_draws_allow():
    truth = np.eye(2, dtype=bool)[[0, 1] * 20]
    found = paired_bootstrap(Predictions(truth, truth, False), Predictions(truth, ~truth, False), resamples=999)
    assert found["accuracy"] == {"difference": 1.0, "interval": [1.0, 1.0], "p": 2 / 1000}


def test_paired_ratios_are_the_bootstrap_of_the_differences_of_pooled_means():
    """Images with several questions each, drawn as a whole, against scipy on the images."""
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 6, 40).astype(float)
    sums = [rng.binomial(counts.astype(int), share).astype(float) for share in (0.7, 0.45)]
    found = paired_ratios({"x": (sums[0], counts)}, {"x": (sums[1], counts)})["x"]
    assert found["difference"] == pytest.approx(sums[0].sum() / counts.sum() - sums[1].sum() / counts.sum())

    def difference(rows, axis=-1):
        return (sums[0][rows].sum(axis) - sums[1][rows].sum(axis)) / counts[rows].sum(axis)

    expected = bootstrap((np.arange(40),), difference, n_resamples=10_000, method="percentile", rng=0)
    assert found["interval"] == pytest.approx(expected.confidence_interval, abs=0.01)
    tail = min((expected.bootstrap_distribution <= 0).mean(), (expected.bootstrap_distribution >= 0).mean())
    assert found["p"] == pytest.approx(2 * tail, abs=0.005)


def test_paired_ratios_leave_out_draws_in_which_nothing_was_counted():
    below = np.array([0.0, 0.0, 1.0])
    found = paired_ratios({"x": (below, below)}, {"x": (0 * below, below)}, 200)["x"]
    assert (found["difference"], found["interval"]) == (1.0, [1.0, 1.0])
    assert 2 / 201 < found["p"] < 2 / 100


@pytest.mark.parametrize(("only_own", "only_base"), [(0, 0), (1, 0), (5, 0), (1, 6), (4, 4), (3, 9)])
def test_mcnemar_counts_every_way_the_differences_could_have_fallen(only_own, only_base):
    own = np.array([True] * only_own + [False] * only_base + [True, True, False])
    base = np.array([False] * only_own + [True] * only_base + [True, True, False])
    differ = only_own + only_base
    ways = [sum(signs) for signs in itertools.product((0, 1), repeat=differ)]
    as_far = [abs(2 * ways_own - differ) >= abs(only_own - only_base) for ways_own in ways]
    found = mcnemar(own, base)
    assert (found["only_own"], found["only_base"]) == (only_own, only_base)
    assert found["p"] == pytest.approx(sum(as_far) / len(ways))
