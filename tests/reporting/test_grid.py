"""Figures of a grid by place."""

from __future__ import annotations

import doctest
import math

import pytest

import vitask.reporting.grid
from vitask.reporting.grid import GridResults


def metrics(mode: str, evaluation: str = "test", **figures) -> dict:
    return {"mode": mode, "evaluation": evaluation, "conditions": {}, **figures}


RESULTS = {
    seed: {
        "vanilla": [
            metrics("off", accuracy=0.5 + shift, tsm={"accuracy": 0.9}, ranking={"auc": 0.7}),
            metrics("untuned", "before", accuracy=0.1),
        ],
        "EP": [
            metrics("off", accuracy=0.4, tsm=None, averaged={"accuracy": 0.8}),
            metrics("on", accuracy=0.6),
            metrics("on", "plug", accuracy=0.7, auc=None, sets={"a": {"accuracy": 0.65, "tsm": {"accuracy": 0.3}}}),
        ],
    }
    for seed, shift in (("0", 0.0), ("4", 0.01))
}


def test_the_example_runs():
    assert doctest.testmod(vitask.reporting.grid).failed == 0


@pytest.mark.parametrize(
    ("place", "key", "of_set", "expected"),
    [
        (["vanilla"], "accuracy", None, {"0": 0.5, "4": 0.51}),
        (["vanilla", "off"], "ranking.auc", None, {"0": 0.7, "4": 0.7}),
        (["vanilla", "tsm"], "accuracy", None, {"0": 0.9, "4": 0.9}),
        (["vanilla", "untuned", "before"], "accuracy", None, {"0": 0.1, "4": 0.1}),
        (["vanilla", "untuned"], "accuracy", None, {}),
        (["vanilla", "on"], "accuracy", None, {}),
        (["EP", "averaged"], "accuracy", None, {"0": 0.8, "4": 0.8}),
        (["EP", "on"], "accuracy", None, {"0": 0.6, "4": 0.6}),
        (["EP", "on", "plug"], "accuracy", None, {"0": 0.7, "4": 0.7}),
        (["EP", "on", "plug"], "auc", None, {}),
        (["EP", "on", "plug"], "accuracy", "a", {"0": 0.65, "4": 0.65}),
        (["EP", "tsm", "plug"], "accuracy", "a", {"0": 0.3, "4": 0.3}),
        (["EP", "tsm"], "accuracy", None, {}),
        (["EP", "on"], "accuracy", "a", {}),
        (["EP"], "accuracy.deeper", None, {}),
        (["nobody"], "accuracy", None, {}),
    ],
)
def test_a_place_gives_its_own_figures(place, key, of_set, expected):
    assert GridResults(RESULTS).values(place, key, of_set=of_set) == expected


def test_places_come_in_the_order_of_evaluations_and_modes():
    expected = [("test", "off"), ("test", "on"), ("before", "untuned"), ("plug", "on")]
    assert GridResults(RESULTS).places == expected


def test_a_baseline_is_taken_from_any_row_that_has_it():
    assert GridResults(RESULTS).baseline("tsm", "accuracy") == [0.9, 0.9]
    assert GridResults(RESULTS).baseline("majority", "accuracy") == []


def test_results_without_names_of_evaluations_are_of_the_test():
    found = GridResults({"0": {"x": [{"mode": "off", "accuracy": 0.5}, {"mode": "on", "accuracy": math.nan}]}})
    assert found.values(["x"], "accuracy") == {"0": 0.5}
    assert found.values(["x", "on"], "accuracy") == {}


def test_the_tsm_is_that_of_the_rows_that_see_its_exemplars():
    plain = {"mode": "off", "accuracy": 0.4, "tsm": {"accuracy": 0.8}}
    seen = {"mode": "on", "accuracy": 0.7, "tsm": {"accuracy": 0.9}}
    assert GridResults({"0": {"vanilla": [plain], "EP": [seen]}}).baseline("tsm", "accuracy") == [0.9]
    assert GridResults({"0": {"vanilla": [plain]}}).baseline("tsm", "accuracy") == [0.8]


def test_conditions_are_those_of_every_row():
    def row(**conditions) -> list[dict]:
        return [{**metrics("off", accuracy=0.5), "conditions": conditions}]

    one = GridResults({"0": {"a": row(noise="40 %", seed="0"), "b": row(noise="40 %", seed="1")}})
    assert (one.conditions, one.same_data) == ({"noise": "40 %"}, False)
    two = GridResults({"0": {"a": row(noise="40 %"), "b": row(noise="40 %")}, "1": {"a": row(), "b": row()}})
    assert (two.conditions, two.same_data) == ({"noise": "40 %"}, True)
    assert not GridResults({"0": {"a": row(), "b": row(noise="40 %")}}).same_data
