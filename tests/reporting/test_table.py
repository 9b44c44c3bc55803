"""Tables: what goes in comes out, in Markdown that any reader splits into the same cells."""

from __future__ import annotations

import doctest
import math
import re

import pytest

import vitask.reporting.table
from vitask.reporting.table import evaluation_table, markdown, number, spread

METRICS = {"accuracy": 0.5, "balanced_accuracy": 0.375, "macro_f1": 0.25, "auc": 0.75, "ece": 0.125}
INTERVALS = {"intervals": {"accuracy": [0.25, 0.775]}}


def cells(table: str) -> list[list[str]]:
    """Split a Markdown table as its readers do: at every | that no backslash precedes."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


def evaluation(mode: str, **changes) -> dict:
    base = {"split": "test", "mode": mode, "samples": 12, **METRICS, "tsm": None, "conditions": {}}
    return {**base, "majority": {"accuracy": 0.1, "macro_f1": 0.02}, **changes}


def test_the_examples_run():
    assert doctest.testmod(vitask.reporting.table).failed == 0


def test_bars_and_newlines_cannot_break_a_table():
    rows = [["a|b", "1"], ["two\nlines", "2"], ["", "3"], ["ends|", "|"]]
    found = cells(markdown(["na|me", "n\nr"], rows))
    assert found[0] == ["na|me", "n r"]
    assert found[2:] == [["a|b", "1"], ["two lines", "2"], ["", "3"], ["ends|", "|"]]


def test_every_line_of_a_table_is_equally_wide():
    lines = markdown(["a", "long header"], [["a much longer cell | with a bar", "1"], ["b", "22"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == {"|", "-", ":"}


def test_a_table_may_have_no_rows():
    assert cells(markdown(["a", "b"], []))[0] == ["a", "b"]


@pytest.mark.parametrize(("value", "text"), [(0.12345, "0.123"), (1.0, "1.000"), (None, "-"), (math.nan, "-")])
def test_figures_have_three_decimals(value, text):
    assert number(value) == text


def test_the_spread_is_mean_and_sample_standard_deviation():
    assert spread([0.5]) == "0.500"
    assert spread([0.5, 0.7]) == f"0.600 ± {0.2 / math.sqrt(2):.3f}"


def test_modes_controls_and_conditions_are_in_one_table():
    generated = {**METRICS, "invalid_rate": 0.125}
    on = evaluation(
        "on",
        **INTERVALS,
        tsm={**METRICS, **INTERVALS},
        averaged=METRICS,
        conditions={"label noise": "40 %"},
        generated=generated,
    )
    off = {**on, "mode": "off", "accuracy": 0.625, "auc": None, "averaged": {**METRICS, "accuracy": 0.875}}
    text = evaluation_table([off, on])
    assert cells(text)[0] == ["test, n = 12", "accuracy (95 % interval)", "balanced", "macro-F1", "AUC", "ECE",
                              "generated", "no label"]  # fmt: skip
    rest = ["0.375", "0.250", "0.750", "0.125"]
    assert cells(text)[2:] == [
        ["VLM without exemplar", "0.625 [0.250, 0.775]", "0.375", "0.250", "-", "0.125", "0.500", "12.5%"],
        ["VLM with exemplar", "0.500 [0.250, 0.775]", *rest, "0.500", "12.5%"],
        ["TSM", "0.500 [0.250, 0.775]", *rest, "-", "-"],
        ["averaged, without exemplar", "0.875", *rest, "-", "-"],
        ["averaged, with exemplar", "0.500", *rest, "-", "-"],
        ["majority class", "0.100", "-", "0.020", "-", "-", "-", "-"],
    ]
    assert text.splitlines()[-1] == "label noise: 40 %"
    assert max(map(len, text.splitlines())) <= 120


def test_intervals_that_are_not_defined_are_left_out():
    rows = cells(evaluation_table([evaluation("off", intervals={"accuracy": [None, None]})]))
    assert rows[2][1] == "0.500"


def test_without_generated_answers_there_are_no_columns_for_them():
    text = evaluation_table([evaluation("untuned")])
    assert cells(text)[0][-1] == "ECE"
    assert cells(text)[2][0] == "VLM before tuning"


def test_a_tsm_run_is_one_row():
    rows = cells(evaluation_table([evaluation("tsm", tsm=METRICS, averaged=None)]))
    assert [row[0] for row in rows[2:]] == ["TSM", "majority class"]


def test_without_a_tsm_there_is_no_row_for_it():
    rows = cells(evaluation_table([evaluation("off", averaged=None)]))
    assert [row[0] for row in rows[2:]] == ["VLM without exemplar", "majority class"]


def test_a_mixture_has_a_row_a_set_and_their_mean():
    sets = {"pneumoniamnist": evaluation("off", tsm=METRICS), "chest": evaluation("off", accuracy=None, tsm=METRICS)}
    off = {**evaluation("off", tsm={"accuracy": 0.75}, conditions={"label noise": "40 %"}), "sets": sets}
    on = {**off, "mode": "on", "accuracy": 0.875}
    text = evaluation_table([off, on])
    assert cells(text)[0] == ["test", "n", "majority acc.", "TSM acc.", "TSM F1", "w/o EP acc.", "w/o EP F1",
                              "w/ EP acc.", "w/ EP F1"]  # fmt: skip
    assert cells(text)[2:] == [
        ["pneumoniamnist", "12", "0.100", "0.500", "0.250", "0.500", "0.250", "0.500", "0.250"],
        ["chest", "12", "0.100", "0.500", "0.250", "-", "0.250", "-", "0.250"],
        ["mean", "12", "0.100", "0.750", "-", "0.500", "0.250", "0.875", "0.250"],
    ]
    assert text.splitlines()[-1] == "label noise: 40 %"
    assert max(map(len, text.splitlines())) <= 120
