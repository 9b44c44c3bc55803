"""`--config-dir` adds a folder of the user's own groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitask.config.compose import compose_config, groups, load_stage
from vitask.config.grid import compose_grid

FILES = {
    "objective/mine.yaml": "defaults:\n  - paper\nalpha: 0.25\n",
    "optim/paper.yaml": "epochs: 99\n",
    "stage/mine.yaml": "name: mine\nterms: [vanilla]\ninit_from: vanilla\ntrain_connector: false\npipeline: [mine]\n",
    "ablation/grid.yaml": "defaults:\n  - base\ntitle: mine\nrows:\n  vanilla: [stage=mine, objective=mine]\n",
}


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder of own groups, which is what the command line names until the test ends."""
    for name, text in FILES.items():
        (tmp_path / "own dir" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own dir" / name).write_text(text)
    monkeypatch.setenv("VITASK_CONFIG_DIR", str(tmp_path / "own dir"))
    return tmp_path / "own dir"


def test_an_own_option_composes_on_top_of_a_shipped_one(own):
    config = compose_config("train", ["objective=mine", "objective.beta=0.3"])
    assert (config.objective.alpha, config.objective.beta, config.objective.ep) == (0.25, 0.3, 1.0)


def test_a_shipped_option_cannot_be_replaced_by_one_of_the_same_name(own):
    assert compose_config("train", ["optim=paper"]).optim.epochs == 1
    assert groups()["optim"].count("paper") == 1


def test_an_own_option_is_suggested_for_a_typo(own, cli):
    assert cli("train", "objective=mime").refuses(2, "Did you mean 'mine'?")


def test_an_own_stage_can_be_started_from(own):
    assert compose_config("train", ["stage=mine"]).stage == load_stage("mine")


def test_an_own_grid_composes(own):
    grid, _ = compose_grid("grid", [])
    assert (grid.title, grid.seeds) == ("mine", [0, 1])


def test_without_the_folder_there_are_no_own_options(own, monkeypatch, cli):
    monkeypatch.delenv("VITASK_CONFIG_DIR")
    assert cli("train", "objective=mine").refuses(2, "no such option")
    assert cli("train", "stage.pipeline=[mine]").refuses(2, "stage 'mine': no such stage")


@pytest.mark.parametrize("form", ["--config-dir={}", "--config-dir {}"])
@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_names_the_folder(own, monkeypatch, cli, form, first):
    monkeypatch.setenv("VITASK_CONFIG_DIR", "to be replaced")
    option = form.format(own).split(" ", 1) if " {" in form else [form.format(own)]
    rest = ["train", "objective=mine", "seed=x"]
    assert cli(*(option + rest if first else rest + option)).refuses(2, "seed: Value 'x'")


def test_a_folder_that_does_not_exist_is_named(own, cli):
    assert cli("train", "--config-dir", own / "absent").refuses(2, "absent: no such folder")
    assert cli("train", "--config-dir").refuses(2, "--config-dir needs a folder")
