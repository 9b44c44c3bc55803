"""The paper's figures: they agree with each other where the paper says the same thing twice."""

from __future__ import annotations

import statistics

import pytest

from vitask.config.compose import compose_config, groups
from vitask.reporting.paper import (
    FIGURE_2,
    FIGURE_4,
    MEDMNIST,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLES,
    TITLES,
    method_of,
    reported_for,
)
from vitask.runs.identity import term_weights

FULL = [("TSM", "tsm"), ("LLaVA-13B", "off"), ("vanilla", "off"), ("VITask", "off"), ("VITask", "on")]


@pytest.mark.parametrize("place", FULL)
def test_the_means_of_table_1_are_those_of_its_rows(place):
    row = TABLE_1.cells[place]
    assert set(row) == {*MEDMNIST, "medmnist12"}
    for key in ("accuracy", "macro_f1"):
        mean = statistics.mean(getattr(row[name], key) for name in MEDMNIST)
        # A printed figure is off by up to .0005, and so is the printed mean; MedMNIST's TSM row is the least exact.
        assert getattr(row["medmnist12"], key) == pytest.approx(mean, abs=0.0011)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("vanilla", "off"), ("vanilla", "off")),
        (("VITask", "off"), ("+ RDA + CRT", "off")),
        (("VITask", "on"), ("+ RDA + CRT", "on")),
    ],
)
def test_tables_1_and_2_say_the_same_of_the_same(first, second):
    for name, reported in TABLE_2.cells[second].items():
        assert TABLE_1.cells[first][name] == reported


def test_every_figure_is_a_share_and_every_set_has_a_title():
    for table in TABLES.values():
        for row in table.cells.values():
            for name, reported in row.items():
                assert name in TITLES
                assert all(0 < value < 1 for value in reported if value is not None)


def test_what_the_paper_does_not_give_is_none():
    assert FIGURE_2.at("VLM", "off", "ham10000") == (None, 0.531)
    assert TABLE_3.at("VITask-plug", "on", "idrid") == (0.544, 0.359)
    assert TABLE_1.at("VITask", "on", "digits") is None


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        (["stage=vanilla"], "vanilla"),
        (["stage=crt", "objective=vanilla"], "vanilla"),
        (["stage=crt", "objective=joint"], "joint EP alone"),
        (["stage=crt", "objective=rda"], "+ RDA"),
        (["stage=ep"], "+ RDA"),
        (["stage=crt", "objective=crt"], "+ CRT"),
        (["stage=crt"], "VITask"),
        (["stage=crt", "objective.csa=1"], None),
        (["stage=tsm"], None),
    ],
)
def test_a_run_is_named_after_its_loss_terms(overrides, method):
    assert method_of(term_weights(compose_config("train", overrides))) == method


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (("VITask", "on", "dermamnist"), ("Table 1", (0.877, 0.772))),
        (("TSM", "tsm", "pathmnist"), ("Table 1", (0.933, 0.926))),
        (("+ RDA", "off", "octmnist"), ("Table 2", (0.844, 0.837))),
        (("joint EP alone", "on", "chestmnist"), ("Table 2", (0.514, 0.118))),
        (("VITask", "on", "aptos2019"), ("Table 3", (0.456, 0.336))),
        (("+ RDA", "off", "pathmnist"), None),
        (("joint EP alone", "off", "octmnist"), None),
        (("vanilla", "off", "digits"), None),
    ],
)
def test_a_method_mode_and_set_find_their_counterpart(place, found):
    method, mode, data = place
    assert reported_for(None, [method], mode, data) == found


def test_the_table_that_is_repeated_goes_before_the_others():
    assert reported_for(FIGURE_4, ["VITask, complete", "VITask"], "off", "dermamnist") == ("Figure 4", (None, 0.633))
    assert reported_for(FIGURE_4, ["mine", "VITask"], "off", "dermamnist") == ("Table 1", (0.81, 0.633))


@pytest.mark.parametrize("grid", groups()["ablation"])
def test_a_grid_names_a_table_that_is_here(grid):
    from vitask.config.grid import compose_grid

    assert compose_grid(grid, ["data.root=nowhere"])[0].paper in {None, "fig3", *TABLES}
