"""Effects: paired differences with their intervals, against scipy."""

from __future__ import annotations

import doctest
import math
import statistics

import numpy as np
import pytest
from scipy.stats import ttest_rel

import vitask.reporting.effects
from vitask.reporting.effects import Effect, effects_of, effects_table, interval, paired_gains, verdict
from vitask.reporting.grid import GridResults

from .test_table import cells

OWN, BASE = [0.60, 0.63, 0.61, 0.58], [0.50, 0.55, 0.49, 0.52]
RESULTS = {
    str(seed): {
        "base": [{"mode": "off", "accuracy": BASE[seed]}],
        "own": [{"mode": "off", "accuracy": OWN[seed]}] if seed != 3 else [],
        "same": [{"mode": "off", "accuracy": BASE[seed]}],
    }
    for seed in range(4)
}


def effect(of: str, over: str, expected: str = "up") -> dict:
    return {"of": [of], "over": [over], "metric": "accuracy", "expected": expected}


def test_the_example_runs():
    assert doctest.testmod(vitask.reporting.effects).failed == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_that_of_the_paired_t_test(seed):
    a, b = np.random.default_rng(seed).random((2, 3 + seed))
    expected = ttest_rel(b, a).confidence_interval(0.95)
    assert interval(list(b - a)) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_seeds_that_only_one_side_has_are_left_out():
    found = paired_gains(GridResults(RESULTS), ["own"], ["base"], "accuracy")
    assert found == pytest.approx([o - b for o, b in zip(OWN[:3], BASE[:3], strict=True)])


@pytest.mark.parametrize("metric", ["brier", "ece", "mae", "generated.invalid_rate"])
def test_less_of_an_error_is_better(metric):
    assert Effect("e", metric, [-0.1, -0.12, -0.11], "none").here == "better"
    assert Effect("e", metric, [0.1, 0.12, 0.11], "up").here == "the opposite"
    assert Effect("e", "accuracy", [-0.1, -0.12, -0.11], "none").here == "worse"


def test_an_effect_has_its_difference_interval_and_verdict():
    effects = {"up|shows": effect("own", "base"), "down": effect("own", "base", "down"), "x": effect("own", "nobody")}
    rows = {row[0]: row[1:] for row in cells(effects_table({"effects": effects}, GridResults(RESULTS)))[2:]}
    p = ttest_rel(OWN[:3], BASE[:3]).pvalue
    gains = np.subtract(OWN[:3], BASE[:3])
    assert rows["up|shows"][1:2] + rows["up|shows"][3:] == [
        f"{gains.mean():+.3f}", f"{p:.3f}", "3", "better", "holds",
    ]  # fmt: skip
    assert rows["down"][-2:] == ["worse", "the opposite"]
    assert rows["x"] == ["accuracy", "-", "- to -", "-", "0", "better", "not tested"]


def test_the_papers_own_difference_stands_beside_ours():
    """Of its Table 3, by hand: the plug gains (.668 + .544 + .652 - .456 - .379 - .521) / 3 in accuracy."""
    at = ["VITask", "on", "far"]
    effects = {
        "plug": {"of": ["VITask", "on", "far, plug"], "over": at, "metric": "accuracy", "expected": "up"},
        "EP": {"of": at, "over": ["vanilla", "off", "far"], "metric": "macro_f1", "expected": "up"},
        "not there": {"of": ["+ RDA"], "over": ["vanilla"], "metric": "accuracy", "expected": "up"},
        "no such figure": {"of": at, "over": ["vanilla"], "metric": "ranking.gap", "expected": "up"},
    }
    grid = {"effects": effects, "paper": "table3", "evaluations": {"far": {}, "far, plug": {"plug": True}}}
    found = [effect.in_paper for effect in effects_of(grid, GridResults(RESULTS))]
    gains = statistics.mean([0.336 - 0.291, 0.262 - 0.223, 0.321 - 0.212])
    assert found == [f"{(1.864 - 1.356) / 3:+.3f}", f"{gains:+.3f}", "better", "better"]


def test_the_mean_row_of_the_paper_counts_no_set_twice():
    here = {"of": ["VITask", "on"], "over": ["VITask", "tsm"], "metric": "accuracy", "expected": "up"}
    (found,) = effects_of({"effects": {"x": here}, "paper": "table1"}, GridResults(RESULTS))
    assert found.paper == pytest.approx(0.847 - 0.816, abs=1e-3)


@pytest.mark.parametrize(
    ("mean", "p", "expected", "said"),
    [
        (0.1, 0.049, "none", "better"),
        (-0.1, 0.049, "none", "worse"),
        (0.1, 0.05, "none", "not shown"),
        (-0.1, 0.01, "down", "holds"),
        (-0.1, 0.01, "up", "the opposite"),
        (0.0, math.nan, "up", "not tested"),
    ],
)
def test_the_verdict_needs_significance_and_the_expected_sign(mean, p, expected, said):
    assert verdict(mean, p, expected) == said
