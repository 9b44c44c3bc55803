"""Stages train in order, find each other, and are not trained twice."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from vitask.runs.folder import RunFolder
from vitask.runs.train import _what_it_took
from vitask.tsm import load_tsm, save_tsm
from vitask.vlm.load import resolve_path

from ..bad_input.case import content


def stamp(run) -> int:
    return (run / "summary.json").stat().st_mtime_ns


def test_the_whole_pipeline_skips_what_is_finished(own_pipeline, cli):
    shutil.rmtree(own_pipeline.run("crt"))
    before = {stage: stamp(own_pipeline.run(stage)) for stage in ("tsm", "vanilla", "ep")}
    ended = cli("train", "stage=all", *own_pipeline.arguments)
    assert ended.code == 0, ended
    assert [line.split(",")[0] for line in ended.out.splitlines() if "finished before" in line] == [
        "tsm: finished before",
        "vanilla: finished before",
        "ep: finished before",
    ]
    assert {stage: stamp(own_pipeline.run(stage)) for stage in before} == before
    assert RunFolder(own_pipeline.run("crt")).finished
    summary = RunFolder(own_pipeline.run("crt")).summary()
    (line,) = [line for line in ended.out.splitlines() if line.startswith("crt: ")]
    took = re.fullmatch(r"crt: (\d+) steps?, ([\d.]+) s of training, ([\d.]+) s in all, .*", line)
    assert took, line
    expected = [summary["steps"], summary["cost"]["seconds"], summary["seconds"]]
    assert [float(each) for each in took.groups()] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(
    ("steps", "trained", "whole", "said"),
    [
        (1, 0.41, 4.16, "1 step, 0.4 s of training, 4.2 s in all"),
        (120, 48.6, 61, "120 steps, 49 s of training, 61 s in all"),
        (120, 48.6, 12.3, "120 steps, 49 s of training"),
    ],
)
def test_what_a_stage_took_tells_training_from_the_rest(steps, trained, whole, said):
    """The last was resumed, so that its own time is shorter than all of its training."""
    assert _what_it_took({"steps": steps, "seconds": whole, "cost": {"seconds": trained}}) == said


def test_a_pipeline_that_is_finished_does_nothing(pipeline, cli):
    before = {path: path.stat().st_mtime_ns for path in pipeline.out.rglob("*")}
    ended = cli("train", "stage=all", *pipeline.arguments)
    assert (ended.code, ended.out.count("finished before"), ended.err) == (0, 4, "")
    assert {path: path.stat().st_mtime_ns for path in pipeline.out.rglob("*")} == before


@pytest.mark.parametrize("stage", ["tsm", "vanilla", "ep", "crt"])
def test_a_finished_run_is_not_trained_again_unless_told(stage, pipeline, cli):
    ended = cli("train", f"stage={stage}", *pipeline.arguments)
    assert ended.refuses(1, str(pipeline.run(stage)), "is finished", "overwrite=true")


def test_a_finished_run_is_trained_again_when_told_and_comes_out_the_same(own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "old").touch()
    before, was = stamp(run), load_file(run / "model/adapter/adapter_model.safetensors")
    others = {stage: stamp(own_pipeline.run(stage)) for stage in ("tsm", "ep", "crt")}
    ended = cli("train", "stage=vanilla", "overwrite=true", *own_pipeline.arguments)
    assert ended.code == 0, ended
    assert stamp(run) != before
    assert not (run / "eval").exists(), "figures of the old run must not stay beside the new one"
    now = load_file(run / "model/adapter/adapter_model.safetensors")
    assert all(torch.equal(was[name], now[name]) for name in was)
    assert {stage: stamp(own_pipeline.run(stage)) for stage in others} == others


def test_a_finished_run_stays_if_what_is_to_replace_it_does_not_begin(own_pipeline, shapes, cli, tmp_path):
    root = shutil.copytree(shapes, tmp_path / "photos")
    words = ["train", "stage=tsm", *own_pipeline.arguments, f"data.root={root}"]
    assert cli(*words).code == 0
    (run,) = own_pipeline.out.glob("photos/tsm-*")
    before = content(own_pipeline.out)
    root.rename(tmp_path / "unmounted")
    assert cli(*words, "overwrite=true").refuses(1, str(root), "no such folder")
    assert content(own_pipeline.out) == before
    assert cli("train", "stage=ep", *own_pipeline.arguments, f"data.root={root}", "prerequisites=require").code == 1
    assert RunFolder(run).finished


def test_a_run_that_another_process_trains_is_left_to_it(own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    (run / "summary.json").unlink()
    before = content(own_pipeline.out)
    with FileLock(run / ".lock"):
        ended = cli("train", "stage=vanilla", *own_pipeline.arguments)
        assert ended.refuses(1, str(run), "another process trains this run", "when it has ended")
    (run / ".lock").unlink(missing_ok=True)
    assert content(own_pipeline.out) == before
    assert cli("train", "stage=vanilla", *own_pipeline.arguments).code == 0
    assert not (run / ".lock").exists()


def test_a_folder_without_locks_is_named(own_pipeline, cli, monkeypatch):
    run = own_pipeline.run("vanilla")
    (run / "summary.json").unlink()

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    ended = cli("train", "stage=vanilla", *own_pipeline.arguments)
    assert ended.refuses(1, str(run / ".lock"), "cannot be locked", "out=")


def test_other_weights_of_the_vlm_are_not_taken_for_those_that_a_run_tuned(own_pipeline, cli, tmp_path):
    base = shutil.copytree(resolve_path("tiny"), tmp_path / "base")
    words = ["train", "stage=vanilla", *own_pipeline.arguments, f"vlm.path={base}"]
    before = own_pipeline.run("vanilla")
    assert cli(*words).code == 0
    (run,) = set(before.parent.glob("vanilla-*")) - {before}
    weights = load_file(base / "model.safetensors")
    name = next(name for name in weights if name.endswith("weight"))
    save_file({**weights, name: weights[name] * 1.01}, base / "model.safetensors", metadata={"format": "pt"})
    assert cli("evaluate", f"run={run}").refuses(1, str(run), str(base), "other weights than those")
    (run / "summary.json").unlink()
    assert cli(*words).refuses(1, str(run), "the weights of the VLM have changed since this run began")


def test_a_tsm_that_was_trained_again_is_not_taken_for_the_one_that_the_connector_knows(own_pipeline, cli):
    ep = own_pipeline.run("ep")
    assert cli("evaluate", f"run={ep}", "exemplar=on").code == 0
    weights = own_pipeline.run("tsm") / "tsm"
    tsm, meta = load_tsm(weights)
    with torch.no_grad():
        next(tsm.parameters()).mul_(1.01)
    save_tsm(tsm, weights, meta)
    (own_pipeline.run("tsm") / "summary.json").touch()
    shutil.rmtree(own_pipeline.run("crt"))
    said = ("its TSM was trained again since", "overwrite=true")
    assert cli("evaluate", f"run={ep}", "exemplar=on").refuses(1, str(ep), *said)
    assert cli("train", "stage=crt", *own_pipeline.arguments).refuses(1, str(ep), *said)
    assert cli("evaluate", f"run={ep}", "exemplar=off").code == 0
    assert cli("evaluate", f"run={ep}", "exemplar=on", f"tsm={own_pipeline.run('tsm')}").code == 0


def test_a_missing_earlier_stage_is_trained_first_with_a_line_that_says_so(own_pipeline, cli):
    for stage in ("tsm", "ep", "crt"):
        shutil.rmtree(own_pipeline.run(stage))
    ended = cli("train", "stage=crt", *own_pipeline.arguments)
    assert ended.code == 0, ended
    said = [line for line in ended.out.splitlines() if "training it first" in line]
    assert said == [
        "stage crt needs stage tsm, which is not trained yet: training it first",
        "stage crt needs stage ep, which is not trained yet: training it first",
    ]
    assert all(RunFolder(own_pipeline.run(stage)).finished for stage in ("tsm", "ep", "crt"))


def test_a_pipeline_from_scratch_gives_what_the_stages_gave_one_by_one(pipeline, own_pipeline, cli):
    """Nothing leaks from one stage of a process into the next: the random states are the run's own."""
    for stage in ("ep", "crt"):
        shutil.rmtree(own_pipeline.run(stage))
        assert cli("train", f"stage={stage}", *own_pipeline.arguments).code == 0
        for name in ("adapter/adapter_model.safetensors", "connector.safetensors"):
            a, b = (load_file(made.run(stage) / "model" / name) for made in (pipeline, own_pipeline))
            assert all(torch.equal(a[key], b[key]) for key in a), (stage, name)


@pytest.mark.parametrize(("missing", "stage"), [("tsm", "ep"), ("ep", "crt")])
def test_a_missing_earlier_stage_may_be_an_error(missing, stage, own_pipeline, cli):
    shutil.rmtree(own_pipeline.run(missing))
    if stage != missing:
        shutil.rmtree(own_pipeline.run(stage))
    ended = cli("train", f"stage={stage}", "prerequisites=require", *own_pipeline.arguments)
    assert ended.refuses(1, f"stage {stage} starts from", f"run stage={missing} first")
    assert not list((own_pipeline.out / "shapes").glob(f"{missing}-*"))


def test_objectives_with_the_same_stage_one_share_its_run(own_pipeline, cli):
    for objective in ("crt", "joint"):
        ended = cli("train", "stage=crt", f"objective={objective}", *own_pipeline.arguments)
        assert ended.code == 0, ended
        assert ("needs stage ep" in ended.out) == (objective == "crt")
    assert len(list((own_pipeline.out / "shapes").glob("ep-*"))) == 2
    assert len(list((own_pipeline.out / "shapes").glob("crt-*"))) == 3


def test_an_override_of_a_stage_is_honoured(own_pipeline, cli):
    ended = cli("train", "stage=ep", "stage.terms=[vanilla,ep]", *own_pipeline.arguments)
    assert ended.code == 0, ended
    runs = [RunFolder(path) for path in (own_pipeline.out / "shapes").glob("ep-*")]
    assert sorted(run.summary()["terms"] for run in runs) == [["vanilla", "ep"], ["vanilla", "ep", "rda"]]


@pytest.mark.parametrize("objective", ["vanilla", "smoothed", "image_ranking"])
def test_an_objective_without_exemplar_needs_neither_tsm_nor_connector(objective, own_pipeline, cli):
    shutil.rmtree(own_pipeline.run("tsm"))
    ended = cli("train", "stage=crt", f"objective={objective}", *own_pipeline.arguments)
    assert ended.code == 0, ended
    assert "tsm" not in ended.out
    assert sorted((p / "model/connector.safetensors").exists() for p in own_pipeline.out.glob("shapes/crt-*")) == [0, 1]


def test_a_connector_that_nothing_has_trained_is_refused(own_pipeline, cli):
    """Frozen and fresh, it would hand noise to the VLM without a word."""
    ended = cli("train", "stage=ep", "stage.train_connector=false", *own_pipeline.arguments)
    assert ended.refuses(2, "stage.train_connector=false")
    ended = cli("train", "stage=crt", "stage.init_from=vanilla", *own_pipeline.arguments)
    assert ended.refuses(1, "connector.safetensors is missing")


def test_a_pipeline_without_its_own_stage_is_refused(pipeline, cli):
    ended = cli("train", "stage=ep", "stage.name=mine", *pipeline.arguments)
    assert ended.refuses(2, "stage.pipeline: does not hold the stage itself, stage.name=mine")


def test_an_objective_without_terms_is_refused(small, tmp_path, cli):
    ended = cli("train", "stage=vanilla", "objective.vanilla=0", *small, f"out={tmp_path}")
    assert ended.refuses(2, "objective: the objective has no term with a weight")


def test_a_loss_that_explodes_stops_the_run_and_keeps_the_checkpoint(small, tmp_path, cli):
    bad = ["optim.lr=1e10", "optim.warmup=0", "optim.clip=0", "optim.epochs=20", "launch.save_every=1"]
    ended = cli("train", "stage=vanilla", *small, *bad, f"out={tmp_path}")
    assert ended.refuses(1, "loss part '", "is intact", "optim.lr")
    (run,) = (tmp_path / "shapes").iterdir()
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert str(checkpoint) in ended.err
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "trainable.safetensors").values())
    assert not RunFolder(run).finished


def test_a_folder_that_cannot_be_made_is_named(small, tmp_path, cli):
    (tmp_path / "file").touch()
    assert cli("train", "stage=vanilla", *small, f"out={tmp_path / 'file'}").refuses(1, str(tmp_path / "file"))


def test_tensorboard_writes_into_the_run_folder(small, tmp_path, cli):
    ended = cli("train", "stage=vanilla", "logger=tensorboard", *small, f"out={tmp_path}")
    assert ended.code == 0, ended
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_conditions_go_into_the_run(small, tmp_path, cli):
    conditions = ["data.label_noise=0.25", "data.train_fraction=0.5"]
    assert cli("train", "stage=vanilla", *small, *conditions, f"out={tmp_path}").code == 0
    (environment,) = tmp_path.rglob("environment.json")
    assert set(json.loads(environment.read_text())["data"]["notes"]) == {"label noise", "training fraction"}


@pytest.mark.slow
def test_adapters_start_alike_with_and_without_a_tsm(cli, small, tmp_path):
    for objective in ("vanilla", "joint"):
        still = ["optim.lr=0", "optim.weight_decay=0", f"objective={objective}", f"out={tmp_path / objective}"]
        assert cli("train", "stage=ep", *small, *still).code == 0
    found = [
        load_file(next(tmp_path.glob(f"{name}/shapes/ep-*/model/adapter/adapter_model.safetensors")))
        for name in ("vanilla", "joint")
    ]
    assert found[0].keys() == found[1].keys()
    assert all(found[0][name].equal(found[1][name]) for name in found[0])
