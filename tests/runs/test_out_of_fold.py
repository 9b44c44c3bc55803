"""Out-of-fold teachers: who is trained on what, what is saved, and who learns from it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from vitask.config.build import build_task
from vitask.config.compose import compose_config
from vitask.errors import UsageError, VitaskError
from vitask.runs.folder import RunFolder
from vitask.runs.out_of_fold import read_out_of_fold, stratified_folds, train_folds
from vitask.runs.train_tsm import tsm_meta
from vitask.tsm import build_transform, load_tsm, save_tsm


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.fixture
def config(small, tmp_path):
    return compose_config("train", ["stage=tsm", *small, "tsm.folds=3", f"out={tmp_path}", "logger=tensorboard"])


@pytest.fixture
def task(config):
    return build_task(config.data, config.seed, config.cache)


@pytest.fixture
def run(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.tsm.mkdir(parents=True)
    return made


class FakeTraining:
    """Notes what each fold would be trained on, and keeps a TSM that is different for each."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.ids: list[list[str]] = []
        self.first_values: list[float] = []
        self.stop_at = stop_at

    def __call__(self, config, fold, part, tsm):
        assert config.logger.tracker == "none", "folds have no runs of their own at a tracker"
        if len(self.ids) == self.stop_at:
            raise Interrupted
        self.ids.append(part.splits["train"]["id"])
        weight = next(tsm.parameters())
        self.first_values.append(weight.flatten()[0].item())
        with torch.no_grad():
            weight.mul_(1 + int(fold.path.name))
        save_tsm(tsm, fold.tsm, tsm_meta(part))


def test_every_image_is_scored_by_the_one_tsm_that_was_not_trained_on_it(config, task, run):
    training, scored = FakeTraining(), {}

    def tune(quiet, fold, part, tsm):
        training(quiet, fold, part, tsm)
        held_out = sorted({*task.splits["train"]["id"]} - {*part.splits["train"]["id"]})
        kept = load_tsm(fold.tsm)[0]
        transform = build_transform(kept.data_config, None, training=False)
        with torch.no_grad():
            for row in map(task.splits["train"]["id"].index, held_out):
                scored[row] = kept(transform(task.splits["train"]["image"][row])[None])[0]

    summary = train_folds(config, run, task, tune)
    everything = task.splits["train"]["id"]
    assert [len(ids) for ids in training.ids] == [16, 16, 16]
    left_out = [sorted({*everything} - {*ids}) for ids in training.ids]
    assert sorted(chain(*left_out)) == sorted(everything)
    logits = read_out_of_fold(run, task)
    torch.testing.assert_close(logits, torch.stack([scored[row] for row in range(24)]), rtol=1e-4, atol=1e-5)
    right = (logits.argmax(-1) == torch.tensor(task.splits["train"]["answer"])).double().mean().item()
    assert summary == {"out_of_fold": {"folds": 3, "accuracy": pytest.approx(right)}}
    assert len({*training.first_values}) == 1, "every fold begins with the same weights"
    run.finish({})
    assert not run.folds.exists()


def test_validation_and_test_images_stay_as_they_are(config, task, run):
    seen = []

    def tune(quiet, fold, part, tsm):
        seen.append([part.splits[name]["id"] for name in ("val", "test")])
        FakeTraining()(quiet, fold, part, tsm)

    train_folds(config, run, task, tune)
    assert seen == [[task.splits[name]["id"] for name in ("val", "test")]] * 3


def test_a_killed_run_goes_on_with_the_fold_that_it_was_at(config, task, run, tmp_path):
    whole = RunFolder(tmp_path / "whole")
    whole.tsm.mkdir(parents=True)
    train_folds(config, whole, task, FakeTraining())
    killed, resumed = FakeTraining(stop_at=2), FakeTraining()
    with pytest.raises(Interrupted):
        train_folds(config, run, task, killed)
    train_folds(config, run, task, resumed)
    assert (len(killed.ids), len(resumed.ids)) == (2, 1)
    assert torch.equal(*(read_out_of_fold(each, task) for each in (run, whole)))


def test_a_run_that_is_killed_behind_its_last_fold_trains_none_again(config, task, run):
    summary = train_folds(config, run, task, FakeTraining())
    again = FakeTraining()
    assert train_folds(config, run, task, again) == summary
    assert again.ids == []


def test_without_alignment_nobody_asks_for_folds(small, tmp_path, cli):
    """The teacher of a term without weight is not looked for."""
    words = ["stage=ep", "objective.closed_set.teacher=out_of_fold", *small, f"out={tmp_path}"]
    assert cli("train", *words).code == 0


def test_logits_of_other_data_or_none_are_refused(config, task, run):
    with pytest.raises(VitaskError, match=r"out_of_fold\.safetensors: missing or damaged"):
        read_out_of_fold(run, task)
    train_folds(config, run, task, FakeTraining())
    with pytest.raises(VitaskError, match=r"other training data; train the TSM again"):
        read_out_of_fold(run, replace(task, fingerprint="another"))


def test_folds_hold_every_answer_in_its_proportion():
    answers = [0] * 30 + [1] * 15 + [2] * 6
    folds = stratified_folds(answers, 3, seed=1)
    assert sorted(chain(*folds)) == list(range(51))
    assert [np.bincount([answers[row] for row in rows]).tolist() for rows in folds] == [[10, 5, 2]] * 3
    assert folds == stratified_folds(answers, 3, seed=1) != stratified_folds(answers, 3, seed=2)


def test_an_answer_too_rare_for_every_fold_is_taken_as_it_comes():
    folds = stratified_folds([0] * 8 + [1], 4, seed=0)
    assert sorted(chain(*folds)) == list(range(9))


def test_too_many_folds_are_a_wrong_request():
    with pytest.raises(UsageError, match=r"tsm\.folds=5: there are too few training images"):
        stratified_folds([0, 0, 1, 1], 5, seed=0)


def test_a_teacher_without_folds_is_refused_before_anything_trains(small, tmp_path, cli):
    ended = cli("train", "stage=ep", "objective=csa", "objective.closed_set.teacher=out_of_fold", *small,
                f"out={tmp_path}")  # fmt: skip
    assert ended.refuses(2, "objective.closed_set.teacher=out_of_fold", "tsm.folds=5")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_closed_set_alignment_learns_from_them_when_told(small, tmp_path, cli, monkeypatch):
    import vitask.runs.assembly as module

    taught = []
    candidates = module.Candidates
    monkeypatch.setattr(module, "Candidates", lambda *args: taught.append(args[3]) or candidates(*args))
    shared = ["stage=ep", "objective=csa", *small, "tsm.folds=2", f"out={tmp_path}"]
    for teacher in ("in_sample", "out_of_fold"):
        assert cli("train", *shared, f"objective.closed_set.teacher={teacher}").code == 0
    (tsm,) = tmp_path.glob("shapes/tsm-*")
    config = RunFolder(tsm).config()
    saved = read_out_of_fold(RunFolder(tsm), build_task(config.data, config.seed, config.cache))
    assert torch.equal(taught[1], saved)
    assert not torch.equal(taught[0], saved)
    assert json.loads((tsm / "summary.json").read_text())["out_of_fold"]["folds"] == 2
    assert sorted(path.name for path in (tsm / "tsm").iterdir()) == [
        "out_of_fold.safetensors",
        "tsm.json",
        "tsm.safetensors",
    ]
    assert len(list(tmp_path.glob("shapes/ep-*"))) == 2
