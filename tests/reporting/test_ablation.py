"""The table of a grid: spreads over seeds, and differences paired by seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from vitask.reporting.ablation import ablation_table, paired_test, spread_of, values

from .test_table import cells, evaluation

GRID = {"title": "a grid", "conditions": "", "references": ["vanilla"]}
SCORES = {"vanilla": [0.50, 0.52, 0.49], "+ RDA|x": [0.60, 0.58, 0.61], "worse": [0.40, 0.40, 0.39]}


def results(seeds: int = 3) -> dict:
    tsm = {"accuracy": 0.8, "macro_f1": 0.7}
    return {
        str(seed): {
            row: [
                evaluation("off", accuracy=scores[seed], macro_f1=scores[seed] / 2, tsm=None),
                *([] if row == "vanilla" else [evaluation("on", accuracy=scores[seed] + 0.1, tsm=tsm)]),
            ]
            for row, scores in SCORES.items()
        }
        for seed in range(seeds)
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_paired_test_is_scipy_s(seed):
    a, b = np.random.default_rng(seed).random((2, 4 + seed))
    assert paired_test(list(b - a)) == pytest.approx(ttest_rel(b, a).pvalue, rel=1e-9)


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_the_paired_test_is_not_defined_for_one_seed_or_equal_differences(differences):
    assert math.isnan(paired_test(differences))


def test_every_row_has_its_spread_and_a_dash_for_what_it_cannot_do():
    rows = {row[0]: row[1:] for row in cells(ablation_table(GRID, results()))[2:7]}
    assert rows["vanilla"] == ["0.503 ± 0.015", "0.252 ± 0.008", "-", "-"]
    assert rows["+ RDA|x"] == ["0.597 ± 0.015", "0.298 ± 0.008", "0.697 ± 0.015", "0.250 ± 0.000"]
    assert rows["majority class"] == ["0.100 ± 0.000", "0.020 ± 0.000", "", ""]
    assert rows["TSM"] == ["0.800 ± 0.000", "0.700 ± 0.000", "", ""], "from the runs that have one"


def test_differences_are_from_the_reference_paired_by_seed():
    text = ablation_table(GRID, results())
    assert "Differences from 'vanilla', paired by seed:" in text
    better, worse = cells(text.split("paired by seed:")[1])[2:]
    expected = ttest_rel(SCORES["+ RDA|x"], SCORES["vanilla"]).pvalue
    assert better[:3] == ["+ RDA|x", "+0.093", f"{expected:.3f}"]
    assert worse[:2] == ["worse", "-0.107"]


def test_one_seed_has_no_differences():
    text = ablation_table(GRID, results(seeds=1))
    assert "Differences" not in text
    assert "±" not in text.split("\n\n")[-1]


def test_conditions_of_the_data_and_of_the_grid_are_shown():
    found = results()
    for row in found["0"].values():
        row[0]["conditions"] = {"label noise": "40 %"}
    text = ablation_table({**GRID, "conditions": "Four cores."}, found)
    assert "- label noise: 40 %" in text
    assert "Four cores." in text
    assert "seeds 0, 1, 2" in text


def test_values_are_taken_by_row_mode_and_key():
    assert values(results(), "worse", "off", "accuracy") == SCORES["worse"]
    assert values(results(), "vanilla", "on", "accuracy") == []
    assert spread_of(results(), "vanilla", "on", "accuracy") == "-"
