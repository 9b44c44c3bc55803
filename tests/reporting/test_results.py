"""The page of results: what holds is counted, corrected and shown once, and says nothing of one machine."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from vitask.reporting.results import results_page

from .test_table import cells

SEEDS = range(5)
GAINS = {"sure": 0.3, "weak": 0.1, "none": 0.0, "wrong": -0.3}
NOISE = {"sure": 0.01, "weak": 0.105, "none": 0.05, "wrong": 0.01}
STEPS = np.array([-1.0, 0.5, 0.2, -0.4, 0.7])


def gains(row: str) -> np.ndarray:
    return GAINS[row] + NOISE[row] * STEPS


def metrics(row: str, seed: int) -> dict:
    value = 0.5 + (gains(row)[seed] if row in GAINS else 0.0)
    same = {"split": "test", "samples": 9, "conditions": {}, "run": row}
    return {"mode": "off", "accuracy": value, "macro_f1": value, **same}


def grid(name: str, effects: dict) -> dict:
    rows = ["base", *GAINS]
    settings = {
        "title": f"Title of {name}",
        "conditions": "",
        "references": ["base"],
        "effects": effects,
        "paper": None,
    }
    results = {str(seed): {row: [metrics(row, seed)] for row in rows} for seed in SEEDS}
    return {"name": name, "grid": settings, "overrides": ["out=/home/me/runs", "optim.epochs=2"], "results": results}


def effect(row: str, expected: str = "up", over: str = "base") -> dict:
    return {"of": [row], "over": [over], "metric": "accuracy", "expected": expected}


@pytest.fixture(scope="module")
def page() -> str:
    first = grid("one", {row: effect(row) for row in GAINS} | {"control": effect("sure", "none")})
    again = grid("two", {"sure": effect("sure"), "other": effect("wrong", "down"), "never": effect("nobody")})
    return results_page({"one": first, "two": again}, "How it was made.")


def section(page: str, title: str) -> list[list[str]]:
    part = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return cells("\n".join(line for line in part.splitlines() if line.startswith("|")))[2:]


def test_what_holds_is_counted_and_corrected_for_all_tests_of_its_table(page):
    rows = section(page, "What holds of the paper")
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("sure", "one", "holds"),
        ("weak", "one", "holds"),
        ("none", "one", "not shown"),
        ("wrong", "one", "the opposite"),
        ("other", "two", "holds"),
    ]
    p = {row: ttest_1samp(gains(row), 0).pvalue for row in GAINS}
    assert 0.05 / 2 < p["weak"] < 0.05
    assert rows[1][5:7] == [f"{p['weak']:.3f}", f"{2 * p['weak']:.3f}"]
    assert "Of 5 effects 3 hold, 2 of them after correction." in page
    assert "Not shown: none (one). The opposite: wrong (one)." in page


def test_controls_have_a_table_of_their_own(page):
    assert [row[0] for row in section(page, "What the controls and our own terms show")] == ["control"]


def test_every_grid_has_its_figures_below_its_command_and_no_place_of_one_machine(page):
    assert "## Title of two\n\n`vitask ablate two seeds=[0,1,2,3,4] out=... optim.epochs=2`" in page
    assert "/home/me" not in page
    assert section(page, "Title of one")[0][:2] == ["base", "0.500 ± 0.000"]
