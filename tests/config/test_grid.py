"""Grids: their rows as overrides, sweeps that multiply them, and names that must exist."""

from __future__ import annotations

import doctest

import pytest

import vitask.config.grid
from vitask.config.compose import compose_config, groups
from vitask.config.grid import EVERY_ROW, compose_grid
from vitask.errors import UsageError
from vitask.runs.ablate import Plan, _check
from vitask.runs.identity import run_folder

MINE = """\
defaults:
  - base
title: mine
base: [stage=crt]
embedded: {all: [data.label_noise=0.4], both: [objective.alpha=3]}
rows: {vanilla: [objective=vanilla], both: [objective=paper]}
evaluations:
  test: {}
  shifted: {"on": [data.split_seed=7], rows: [both]}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a grid of one's own, and a way to change it."""
    folder = tmp_path / "ablation"
    folder.mkdir()

    def write(text: str = MINE) -> str:
        (folder / "mine.yaml").write_text(text)
        return "mine"

    monkeypatch.setenv("VITASK_CONFIG_DIR", str(tmp_path))
    write()
    return write


def test_the_examples_run():
    assert doctest.testmod(vitask.config.grid).failed == 0


@pytest.mark.parametrize("name", sorted(groups()["ablation"]))
def test_every_row_and_evaluation_of_the_shipped_grids_composes_and_would_be_trained(name):
    root = ["data.root=nowhere"] if name in ("recommended_xray", "table3_paper") else []
    grid, overrides = compose_grid(name, ["split=val", *root])
    assert (grid.split, overrides) == ("val", root)
    plans = [Plan(grid, row, overrides, seed=3) for row in grid.rows]
    assert {plan.config.seed for plan in plans} == {3}
    _check(plans)
    folders = [run_folder(plan.config) for plan in plans]
    assert len(set(folders)) == len(folders), "two rows are the same run"


def test_the_embedded_values_hold_by_row_and_go_with_an_experiment(mine):
    grid, rest = compose_grid("mine", [])
    noises = {row: Plan(grid, row, rest, 0).config.data.label_noise for row in grid.rows}
    assert noises == {"vanilla": 0.4, "both": 0.4}
    assert [Plan(grid, row, rest, 0).config.objective.alpha for row in grid.rows] == [0.0, 3.0]
    grid, rest = compose_grid("mine", ["experiment=paper_derma"])
    config = Plan(grid, "both", rest, 0).config
    assert (config.data.name, config.data.label_noise, config.objective.alpha) == ("dermamnist", 0.0, 1.0)


def test_an_evaluation_on_other_data_changes_the_data_alone(mine):
    grid, rest = compose_grid("mine", ["data.split_seed=1"])
    plan = Plan(grid, "both", rest, 0)
    _, other = plan.evaluations["shifted"]
    assert (plan.config.data.split_seed, other.data.split_seed) == (1, 7), "what an evaluation is on wins"
    assert other.objective == plan.config.objective
    assert list(Plan(grid, "vanilla", rest, 0).evaluations) == ["test"]


@pytest.mark.parametrize(
    ("overrides", "choices"),
    [
        (["lora.rank=4,8"], ["lora.rank=4", "lora.rank=8"]),
        (["connector=mlp,linear", "seeds=[3]"], ["connector=mlp", "connector=linear"]),
    ],
)
def test_an_override_with_several_values_multiplies_the_rows(mine, overrides, choices):
    rows = [f"{row}, {choice}" for row in ("vanilla", "both") for choice in choices]
    grid, rest = compose_grid("mine", overrides)
    assert list(grid.rows) == rows
    assert rest == []
    assert (grid.references, grid.effects) == ([rows[0]], {})
    assert grid.embedded[EVERY_ROW] == ["data.label_noise=0.4"]
    assert Plan(grid, rows[-1], rest, 0).config.objective.alpha == 3, "each row keeps its own embedded values"


def test_an_evaluation_of_some_rows_stays_with_what_they_become():
    grid, _ = compose_grid("controls", ["lora.rank=4,8"])
    assert grid.evaluations["contrastive decoding"].rows == ["vanilla, lora.rank=4", "vanilla, lora.rank=8"]
    assert grid.evaluations["test"].rows is None


def test_two_sweeps_give_their_product_with_each_value_applied():
    grid, rest = compose_grid("sweep", ["objective.alpha=0.5,2", "lora.rank=4,8", "optim.epochs=1"])
    configs = {row: Plan(grid, row, rest, 0).config for row in grid.rows}
    assert rest == ["optim.epochs=1"]
    assert {row: (c.objective.alpha, c.lora.rank, c.optim.epochs) for row, c in configs.items()} == {
        f"objective.alpha={alpha}, lora.rank={rank}": (alpha, rank, 1) for alpha in (0.5, 2) for rank in (4, 8)
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("effects: {x: {of: [bth], over: [vanilla], metric: accuracy, expected: up}}", "there is no row 'bth'. Did"),
        ("effects: {x: {of: [both, off, tst], over: [both], metric: accuracy, expected: up}}", "no evaluation 'tst'"),
        ("effects: {x: {of: [], over: [both], metric: accuracy, expected: up}}", "effects.x: expected [row, mode"),
        ("effects: {x: {of: [both], over: [both], metric: accuracy, expected: higher}}", "not one of up, down, none"),
        ("shown: {x: [nobody]}", "shown.x: there is no row 'nobody'"),
        ("figure: pie", "figure: 'pie' is not one of"),
        ("references: [nobody]", "references: there is no row 'nobody'"),
    ],
)  # fmt: skip
def test_a_grid_that_names_what_it_does_not_have_is_refused(mine, change, message):
    with pytest.raises(UsageError) as refused:
        compose_grid(mine(MINE + change + "\n"), [])
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["nobody", "base"])
def test_an_embedded_row_must_exist(mine, name):
    with pytest.raises(UsageError, match=f"embedded: there is no row '{name}'"):
        compose_grid(mine(MINE.replace("both: [objective.alpha=3]", f"{name}: []")), [])


def test_a_value_of_a_sweep_is_checked_like_any_other():
    with pytest.raises(UsageError, match="no such option"):
        compose_grid("sweep", ["connector=mlp,linaer"])


def test_evaluations_are_changed_and_added_from_the_command_line():
    changes = ["evaluations.test.options=['ranking=true']", "evaluations.probe.options=['probe=a.csv']"]
    grid, rest = compose_grid("table2", changes)
    assert {name: spec.options for name, spec in grid.evaluations.items()} == {
        "test": ["ranking=true"], "probe": ["probe=a.csv"],
    }  # fmt: skip
    assert rest == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluations.test.options=[ranking=true]", "'evaluations.test.options=[ranking=true]' cannot be read"),
        ("evaluations.test.optoins=[a]", "evaluations.test.optoins"),
        ("seeds=[0", "'seeds=[0' cannot be read"),
    ],
)
def test_an_override_of_the_grid_that_cannot_be_is_named(override, said):
    with pytest.raises(UsageError) as refused:
        compose_grid("table2", [override])
    assert said in str(refused.value)


def test_the_paper_s_settings_are_reached_by_experiment():
    grid, rest = compose_grid("table2", ["experiment=paper_derma", "data.root=nowhere"])
    config = compose_config("train", [*grid.base, *grid.rows["+ RDA"], *rest])
    plan = Plan(grid, "+ RDA", rest, 0)
    assert (plan.config.vlm.path, plan.config.data.name) == (config.vlm.path, "dermamnist")
