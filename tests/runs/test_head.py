"""`stage=head`: trained, evaluated and asked for single images like any VLM run, without a word being generated."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import call
from vitask.runs.folder import RunFolder
from vitask.training.loop import Loop

from .test_predict import answers


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """A head run and what it was trained with; tests leave it as it is."""
    arguments = [*small, f"out={tmp_path_factory.mktemp('runs')}"]
    ended = call(["train", "stage=head", *arguments])
    assert ended.code == 0, ended
    assert "linear head" in ended.out
    return RunFolder(next(path for path in find(arguments, "head-*"))), arguments


def find(arguments, pattern: str) -> list[Path]:
    return sorted(Path(arguments[-1].removeprefix("out=")).glob(f"shapes/{pattern}"))


@pytest.fixture
def own(trained, tmp_path):
    """A copy of the run that a test may change."""
    shutil.copytree(trained[0].path, tmp_path / trained[0].path.name, ignore=shutil.ignore_patterns("eval"))
    return RunFolder(tmp_path / trained[0].path.name)


def test_it_needs_neither_tsm_nor_connector_and_saves_the_head_beside_the_adapter(trained):
    run, arguments = trained
    assert find(arguments, "*") == [run.path]
    assert sorted(path.name for path in run.model.iterdir()) == ["adapter", "head.safetensors", "vitask.json"]
    head = load_file(run.model / "head.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in head.items()} == {"weight": (3, 128), "bias": (3,)}
    summary = run.summary()
    assert (summary["steps"], summary["trained"]["linear head"]) == (3, [2, 3 * 129])


def test_the_adapter_is_the_one_of_the_other_stages(trained, pipeline):
    names = [
        load_file(path / "model/adapter/adapter_model.safetensors").keys()
        for path in (trained[0].path, pipeline.run("vanilla"))
    ]
    assert names[0] == names[1]


def test_evaluation_and_prediction_agree(trained, shapes, cli):
    run, _ = trained
    ended = cli("evaluate", f"run={run.path}")
    assert ended.code == 0, ended
    assert [path.name for path in (run.path / "eval").iterdir()] == ["test-off"]
    metrics = json.loads((run.path / "eval/test-off/metrics.json").read_text())
    assert "generated" not in metrics
    with (run.path / "eval/test-off/predictions.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    right = sum(row["truth"] == row["prediction"] for row in rows.values()) / len(rows)
    assert (metrics["mode"], metrics["samples"], metrics["accuracy"]) == ("off", 12, pytest.approx(right))
    for row in rows.values():
        figures = {label: float(row[f"p({label})"]) for label in ("bar", "dot", "row")}
        assert sum(figures.values()) == pytest.approx(1, abs=2e-6)
        assert figures[row["prediction"]] == max(figures.values())
    ended = cli("predict", f"run={run.path}", "batch_size=5", *(shapes / "test" / name for name in ("bar", "dot")))
    assert ended.code == 0, ended
    found = answers(ended.out)
    assert len(found) == 8
    for path, row in found.items():
        wanted = rows[path.removeprefix(f"{shapes}/")]
        assert row == pytest.approx({label: float(wanted[f"p({label})"]) for label in row}, abs=6e-4)


def test_what_is_there_is_not_computed_again(trained, cli, monkeypatch):
    import vitask.runs.evaluate as module

    assert cli("evaluate", f"run={trained[0].path}", "split=val").code == 0
    monkeypatch.setattr(module, "Evaluation", None)
    assert cli("evaluate", f"run={trained[0].path}", "split=val").code == 0


def test_the_same_command_gives_the_same_head(trained, small, tmp_path, cli):
    assert cli("train", "stage=head", *small, f"out={tmp_path}").code == 0
    (again,) = tmp_path.glob("shapes/head-*")
    assert again.name == trained[0].path.name
    heads = [load_file(path / "model/head.safetensors") for path in (again, trained[0].path)]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


@pytest.mark.parametrize("asked", ["ranking=true", "tuned=false", "contrast=0.5"])
def test_what_needs_answers_is_refused(asked, trained, cli):
    assert cli("evaluate", f"run={trained[0].path}", asked).refuses(2, asked.split("=")[0], "gives no answers")
    assert cli("evaluate", f"run={trained[0].path}", "exemplar=on").refuses(2, "without exemplar")


def test_a_missing_head_is_named(own, shapes, cli):
    (own.model / "head.safetensors").unlink()
    for verb in (("evaluate", "overwrite=true"), ("predict", shapes / "test/bar/0.png")):
        assert cli(verb[0], f"run={own.path}", verb[1]).refuses(1, "head.safetensors")


def test_a_second_stage_goes_on_from_the_first(trained, cli, monkeypatch):
    """Nothing trains in this second stage, so it saves what it started from."""
    run, arguments = trained
    monkeypatch.setattr(Loop, "run", lambda self, recorder: None)
    ended = cli("train", "stage=head", "stage.init_from=head", *arguments)
    assert ended.code == 0, ended
    (second,) = [path for path in find(arguments, "head-*") if path != run.path]
    for name in ("head.safetensors", "adapter/adapter_model.safetensors"):
        first, other = (load_file(path / "model" / name) for path in (run.path, second))
        assert all(torch.equal(first[key], other[key]) for key in first), name
    shutil.rmtree(second)


def test_a_head_may_start_from_the_adapter_of_a_stage_that_answers(small, tmp_path, cli):
    ended = cli("train", "stage=head", "stage.init_from=vanilla", *small, f"out={tmp_path}")
    assert ended.code == 0, ended
    assert "stage head needs stage vanilla" in ended.out
    (run,) = tmp_path.glob("shapes/head-*")
    assert cli("evaluate", f"run={run}").code == 0
