"""A disk that is full, and folders that vanish: one line that names the place, nothing half written, nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitask.training.loop import Loop

from .case import content

FULL = "No space left on device"
pytestmark = pytest.mark.slow


@contextmanager
def full(text: str) -> Iterator[None]:
    """There is no room for files whose path holds a text."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if text in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, FULL)
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        yield


@contextmanager
def after_save(what) -> Iterator[None]:
    """Call `what` with the run folder behind the first checkpoint."""
    save, done = Loop.save, []

    def saved(loop: Loop) -> None:
        save(loop)
        if not done:
            done.append(True)
            what(loop.checkpoints.folder.parent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "save", saved)
        yield


def only_run(out: Path) -> Path:
    (run,) = (out / "shapes").iterdir()
    return run


@pytest.fixture
def settings(pipeline, tmp_path) -> list[str]:
    return [*pipeline.overrides, "stage=vanilla", "launch.save_every=1", f"out={tmp_path / 'runs'}"]


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        (".environment.json", []),
        ("step-00000001", []),
        ("step-00000003", [1, 2]),
        (".model.", [2, 3]),
        (".summary.json", [2, 3]),
    ],
)
def test_a_training_goes_on_once_there_is_room(place, kept, settings, pipeline, cli, tmp_path):
    with full(place):
        ended = cli("train", *settings)
    assert ended.refuses(1, FULL, str(tmp_path / "runs"), "the same command")
    assert not list(tmp_path.rglob("*.tmp"))
    assert sorted(path.name for path in tmp_path.rglob("step-*")) == [f"step-{step:08d}" for step in kept]
    ended = cli("train", *settings)
    assert ended.code == 0, ended
    found, wanted = (
        load_file(run / "model/adapter/adapter_model.safetensors")
        for run in (only_run(tmp_path / "runs"), pipeline.run("vanilla"))
    )
    assert found.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (".predictions.csv", "evaluate | run={tsm} | split=val"),
        (".metrics.json", "evaluate | run={tsm} | split=val"),
        ("labels.json", "export | run={vanilla} | out={tmp}/exported | samples=1"),
        ("contact-sheet.png", "data | inspect | {settings} | out={tmp}/seen"),
    ],
)
def test_other_verbs_leave_no_half(place, words, runs, cli):
    before = content(runs["tmp"])
    words = words.replace("{settings}", runs["settings"]).format(**runs).split(" | ")
    with full(place):
        assert cli(*words).refuses(1, FULL, "make room")
    left = content(runs["tmp"])
    assert {name: left.get(name) for name in before} == before
    assert not [name for name in left if ".tmp" in name or place.lstrip(".") in name.removeprefix("runs")]


def test_data_that_vanish_in_the_middle_are_not_missed(shapes, settings, cli, tmp_path):
    """Images are converted into the cache, and what of it is open stays readable."""
    root = shutil.copytree(shapes, tmp_path / "photos")
    with after_save(lambda _: shutil.rmtree(root)):
        ended = cli("train", *settings, f"data.root={root}")
    assert ended.code == 0, ended


def test_a_run_folder_that_vanishes_in_the_middle_is_named(settings, cli, tmp_path):
    with after_save(shutil.rmtree):
        assert cli("train", *settings).refuses(1, "log.jsonl", "No such file or directory")
