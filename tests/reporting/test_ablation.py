"""The table of a grid: spreads over seeds, and differences paired by seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from vitask.reporting.ablation import ablation_table, paired_test

from .test_table import METRICS, cells, evaluation

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


def with_evaluations() -> dict:
    """Two rows, one of which has a second evaluation with another TSM."""
    found = results()
    for seed, rows in found.items():
        plug = evaluation("on", accuracy=0.9 + int(seed) / 100, tsm={"accuracy": 0.95, "macro_f1": 0.9})
        rows["+ RDA|x"].append({**plug, "evaluation": "plug"})
    return found


def test_every_evaluation_has_its_columns_and_its_own_tsm():
    header, _, *body = cells(ablation_table({**GRID, "references": []}, with_evaluations()))
    assert header[-2:] == ["plug: w/ EP, accuracy", "plug: w/ EP, macro-F1"]
    rows = {row[0]: row[-2:] for row in body}
    assert rows["TSM"] == ["0.950 ± 0.000", "0.900 ± 0.000"]
    assert rows["+ RDA|x"] == ["0.910 ± 0.010", "0.250 ± 0.000"]
    assert rows["vanilla"] == ["-", "-"]


def test_the_columns_of_a_grid_are_its_own():
    found = results()
    for rows in found.values():
        rows["vanilla"][0]["ranking"] = {"auc": 0.75}
    grid = {**GRID, "columns": {"pairs": "ranking.auc"}, "references": []}
    header, _, *body = cells(ablation_table(grid, found))
    assert header[1:] == ["w/o EP, pairs"]
    assert {row[0]: row[1] for row in body}["vanilla"] == "0.750 ± 0.000"
    assert {row[0]: row[1] for row in body}["worse"] == "-"


def several_sets() -> dict:
    def sets(mode: str, shift: float) -> dict:
        parts = {name: evaluation(mode, accuracy=a + shift, tsm=METRICS) for name, a in (("x", 0.2), ("y", 0.4))}
        return {**evaluation(mode, accuracy=0.3 + shift, tsm=METRICS), "sets": parts}

    return {"0": {"vanilla": [sets("off", 0.0)], "ours": [sets("off", 0.1), sets("on", 0.3)]}}


def test_a_grid_over_several_sets_has_a_row_a_set_and_their_mean():
    grid = {**GRID, "layout": "sets", "columns": {"accuracy": "accuracy"}}
    header, _, *body = cells(ablation_table(grid, several_sets()))
    assert header[1:] == [
        "TSM, accuracy", "vanilla w/o EP, accuracy", "ours w/o EP, accuracy", "ours w/ EP, accuracy"
    ]  # fmt: skip
    assert body == [
        ["x", "0.500", "0.200", "0.300", "0.500"],
        ["y", "0.500", "0.400", "0.500", "0.700"],
        ["mean", "0.500", "0.300", "0.400", "0.600"],
    ]


def test_effects_stand_below_the_table():
    effect = {"of": ["+ RDA|x"], "over": ["vanilla"], "metric": "accuracy", "expected": "up"}
    text = ablation_table({**GRID, "effects": {"RDA": effect}}, results())
    assert cells(text.split("Effects, paired by seed:")[1])[2][:3] == ["RDA", "accuracy", "+0.093"]
    assert "Effects" not in ablation_table({**GRID, "effects": {"RDA": effect}}, results(seeds=1))


def test_a_grid_of_answers_in_words_shows_their_figures():
    def measured(exact: float) -> dict:
        frame = {"mode": "off", "split": "test", "samples": 4, "conditions": {}, "by_instruction": {}}
        figures = {"rank_accuracy": exact / 2, "generated": {"exact_match": exact}, "majority": {"exact_match": 0.25}}
        return {**frame, **figures}

    grid = {"title": "words", "conditions": "", "references": ["a"], "columns": {"accuracy": "accuracy"}}
    results = {seed: {"a": [measured(0.5 + n)], "b": [measured(0.7 + n)]} for seed, n in (("0", 0.0), ("1", 0.1))}
    found = cells(ablation_table(grid, results))
    assert found[0][1:] == ["w/o EP, exact match", "w/o EP, ranked first"]
    assert found[2][:2] == ["commonest response", "0.250 ± 0.000"]
    assert found[4] == ["b", "0.750 ± 0.071", "0.375 ± 0.035"]
    assert found[-1][1].startswith("+0.200"), "the difference from the reference row"
