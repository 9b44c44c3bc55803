"""Intervals and paired tests: against loops, scipy and simulations of which the truth is known."""

from __future__ import annotations

import doctest
import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import bootstrap

import vitask.evaluation.swaps as swaps_module
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
    assert doctest.testmod(module).failed == doctest.testmod(swaps_module).failed == 0


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


def test_equal_answers_differ_by_nothing():
    made = random_predictions(0, False)
    found = paired_bootstrap(made, made)
    assert found["accuracy"] == found["macro_f1"] == {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0}


def test_a_model_that_is_always_better_has_the_smallest_p_that_the_draws_allow():
    truth = np.eye(2, dtype=bool)[[0, 1] * 20]
    found = paired_bootstrap(Predictions(truth, truth, False), Predictions(truth, ~truth, False), resamples=999)
    assert found["accuracy"] == {"difference": 1.0, "interval": [1.0, 1.0], "p": 1 / 1000}


def macro_f1_by_loops(truth, chosen, multi_label) -> float:
    return figures_by_loops(truth, chosen, np.zeros(truth.shape), multi_label)["macro_f1"]


@pytest.mark.parametrize(("seed", "multi_label"), RANDOM)
def test_the_p_of_few_samples_is_the_share_of_all_swaps_that_differ_as_much(seed, multi_label):
    own, other = (random_predictions(seed + 10 * model, multi_label, samples=7) for model in (0, 1))
    differences = []
    for swapped in itertools.product([False, True], repeat=7):
        sides = np.array([own.chosen, other.chosen])
        for sample in np.flatnonzero(swapped):
            sides[:, sample] = sides[::-1, sample]
        one, two = (macro_f1_by_loops(own.truth, side, multi_label) for side in sides)
        differences.append(abs(one - two))
    found = paired_bootstrap(own, Predictions(own.truth, other.chosen, multi_label))
    assert found["macro_f1"]["p"] == pytest.approx(np.mean(np.array(differences) >= differences[0] - 1e-9))
    exact = mcnemar((own.truth == own.chosen).all(-1), (own.truth == other.chosen).all(-1))
    assert found["accuracy"]["p"] == pytest.approx(exact["p"])


def test_the_p_of_many_samples_is_close_to_that_of_every_swap():
    """Of the accuracy it is McNemar's, whose value is known."""
    own, base = two_models(np.random.default_rng(4), 300, 0.02)
    exact = mcnemar(*((each.truth == each.chosen).all(-1) for each in (own, base)))
    assert exact["only_own"] + exact["only_base"] > swaps_module.MOST_EXACT
    assert 0.001 < exact["p"] < 0.5
    assert paired_bootstrap(own, base)["accuracy"]["p"] == pytest.approx(exact["p"], abs=0.02)


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


def test_paired_ratios_leave_out_draws_in_which_nothing_was_counted():
    below = np.array([0.0, 0.0, 1.0])
    found = paired_ratios({"x": (below, below)}, {"x": (0 * below, below)}, 200)["x"]
    assert found == {"difference": 1.0, "interval": [1.0, 1.0], "p": 1.0}


def test_four_images_gained_and_none_lost_may_be_chance():
    asked = np.array([4, 4, 4, 4, 3, 4, 4, 4.0])
    base = np.array([2, 3, 1, 4, 3, 0, 2, 4.0])
    own = base + np.array([1, 1, 2, 0, 0, 1, 0, 0])
    assert paired_ratios({"x": (own, asked)}, {"x": (base, asked)})["x"]["p"] == pytest.approx(2 / 2**4)


def ratio_p_by_loops(own, base) -> float:
    """Every way to give each image's sums to the one side or to the other."""
    differences = []
    for swapped in itertools.product([False, True], repeat=len(own[0])):
        sums = np.zeros((2, 2))
        for image, swap in enumerate(swapped):
            pair = [[part[image] for part in side] for side in (own, base)]
            sums += np.array(pair[::-1] if swap else pair)
        differences.append(abs(sums[0, 0] / sums[0, 1] - sums[1, 0] / sums[1, 1]))
    return float(np.mean([each >= differences[0] - 1e-9 for each in differences]))


@pytest.mark.parametrize("seed", range(4))
def test_the_p_of_a_ratio_is_the_share_of_all_swaps_that_differ_as_much(seed):
    """Also where the models count differently below the line, as tokens of two tokenizers."""
    rng = np.random.default_rng(seed)
    own, base = ((rng.normal(size=9), rng.integers(1, 5, 9).astype(float)) for _ in range(2))
    assert paired_ratios({"x": own}, {"x": base}, 50)["x"]["p"] == pytest.approx(ratio_p_by_loops(own, base))


def test_the_p_of_a_ratio_over_many_images_is_drawn_and_close_to_that_of_all_swaps(monkeypatch):
    rng = np.random.default_rng(6)
    own, base = ((rng.normal(shift, 1, 12), np.ones(12)) for shift in (0.8, 0.0))
    exact = ratio_p_by_loops(own, base)
    monkeypatch.setattr(swaps_module, "MOST_EXACT", 5)
    drawn = paired_ratios({"x": own}, {"x": base})["x"]["p"]
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.015)
    monkeypatch.setattr(swaps_module, "VALUES", 600)
    assert paired_ratios({"x": own}, {"x": base})["x"]["p"] == drawn, "drawing in parts changes nothing"


@pytest.mark.slow
def test_over_few_images_chance_is_rarely_taken_for_a_difference():
    rng, asked = np.random.default_rng(0), np.full(8, 4.0)
    p_values = [
        paired_ratios(*({"x": (rng.binomial(4, 0.5, 8).astype(float), asked)} for _ in range(2)), 50)["x"]["p"]
        for _ in range(1000)
    ]
    assert 0.005 < np.mean(np.array(p_values) <= 0.05) < 0.065


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
