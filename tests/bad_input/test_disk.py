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
ADAPTER = "model/adapter/adapter_model.safetensors"
TSM = "tsm/tsm.safetensors"
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
    (run,) = out.glob("*/*")
    return run


def same_weights(first: Path, second: Path, name: str) -> bool:
    found, wanted = (load_file(run / name) for run in (first, second))
    return found.keys() == wanted.keys() and all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


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
    assert same_weights(only_run(tmp_path / "runs"), pipeline.run("vanilla"), ADAPTER)


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


@pytest.mark.parametrize("place", ["report.html", "tables.tex", "tables.csv"])
def test_a_report_that_found_no_room_leaves_no_half(place, runs, cli):
    assert cli("evaluate", f"run={runs['tsm']}").code == 0
    words = ["report", str(runs["tsm"]), f"out={runs['tmp'] / 'page'}"]
    before = content(runs["tmp"])
    with full(place):
        assert cli(*words).refuses(1, FULL, str(runs["tmp"] / "page"), "make room")
    assert content(runs["tmp"]) == before
    assert cli(*words).code == 0
    before = content(runs["tmp"])
    with full(place):
        assert cli(*words).refuses(1, FULL, "make room")
    assert content(runs["tmp"]) == before


@pytest.mark.parametrize("place", [".tsm.safetensors", ".tsm.json"])
def test_a_tsm_that_found_no_room_is_trained_to_the_same_weights(place, settings, pipeline, cli, tmp_path):
    settings = [*settings, "stage=tsm"]
    with full(place):
        assert cli("train", *settings).refuses(1, FULL, place.lstrip("."), "the same command")
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (only_run(tmp_path / "runs") / "summary.json").exists()
    assert cli("train", *settings).code == 0
    assert same_weights(only_run(tmp_path / "runs"), pipeline.run("tsm"), TSM)


@pytest.mark.parametrize("words", [["train"], ["data", "inspect"], ["doctor"]])
def test_a_cache_that_is_a_file_is_named_and_left_alone(words, settings, cli, tmp_path):
    place = tmp_path / "cache"
    place.write_text("mine")
    options = settings if words != ["data", "inspect"] else [*settings[:4], f"out={tmp_path / 'seen'}"]
    assert cli(*words, *options, f"cache={place}").refuses(1, str(place), "Not a directory")
    assert place.read_text() == "mine"
    assert list(tmp_path.rglob("*")) == [place]


def test_data_that_are_away_at_the_second_start_are_named_and_nothing_is_lost(
    shapes, settings, pipeline, cli, tmp_path
):
    root = shutil.copytree(shapes, tmp_path / "photos")
    settings = [*settings, f"data.root={root}"]
    with full("step-00000003"):
        cli("train", *settings)
    root.rename(tmp_path / "unmounted")
    before = content(tmp_path / "runs")
    assert cli("train", *settings).refuses(1, str(root), "no such folder")
    assert content(tmp_path / "runs") == before
    (tmp_path / "unmounted").rename(root)
    assert cli("train", *settings).code == 0
    assert same_weights(only_run(tmp_path / "runs"), pipeline.run("vanilla"), ADAPTER)


def test_data_that_vanish_in_the_middle_are_not_missed(shapes, settings, cli, tmp_path):
    """Images are converted into the cache, and what of it is open stays readable."""
    root = shutil.copytree(shapes, tmp_path / "photos")
    with after_save(lambda _: shutil.rmtree(root)):
        ended = cli("train", *settings, f"data.root={root}")
    assert ended.code == 0, ended


def test_a_run_folder_that_vanishes_in_the_middle_is_named(settings, cli, tmp_path):
    with after_save(shutil.rmtree):
        assert cli("train", *settings).refuses(1, "log.jsonl", "No such file or directory")
