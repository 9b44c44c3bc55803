"""SIGTERM and Ctrl-C while libraries load and between stages, when no loop listens."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import hear_ctrl_c
from vitask import interruption
from vitask.errors import VitaskError
from vitask.interruption import Interrupted, Stopped, interruptible, listen, raise_if_told, told_by
from vitask.training.preemption import Preemption

SAID = "vitask: stopped by {} before training began or between two stages; the same command goes on from there\n"
NUMBERS = [signal.SIGTERM, signal.SIGINT]

PROGRAM = """
import signal, sys

class Teller:
    \"\"\"Tells this process to stop as soon as a module is asked for, once.\"\"\"

    def find_spec(self, name, path, target=None):
        if name == {module!r} and self in sys.meta_path:
            sys.meta_path.remove(self)
            try:
                signal.raise_signal(signal.{number})
            except BaseException:
                if not {swallowed}:
                    raise

sys.meta_path.insert(0, Teller())
from vitask.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def _handlers(monkeypatch) -> Iterator[None]:
    """Heed Ctrl-C even where the suite is told to ignore it, and leave no trace of having been told to stop."""
    monkeypatch.setattr(interruption, "_told", None)
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def tell(number: int) -> None:
    signal.raise_signal(number)


def tell_a_swallower(number: int) -> None:
    try:
        signal.raise_signal(number)
    except BaseException:
        return


def tell_a_class_body(number: int) -> None:
    """Python before 3.12 makes a RuntimeError of whatever `__set_name__` raises; this does so in every version."""
    try:
        signal.raise_signal(number)
    except BaseException as error:
        raise RuntimeError("Error calling __set_name__") from error


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("told", [tell, tell_a_swallower, tell_a_class_body])
def test_a_run_that_is_told_to_stop_while_it_loads_begins_nothing(told, number, small, tmp_path, cli, monkeypatch):
    """The stage's module is what loads last; a later run with the same command is a whole one."""
    tune, begun = importlib.import_module("vitask.runs.train_tsm").train_tsm, []
    monkeypatch.setattr("vitask.runs.train_tsm.train_tsm", lambda *words: begun.append(words) or tune(*words))
    monkeypatch.setattr("vitask.runs.train.join_ranks", lambda device: told(number))
    ended = cli("train", "stage=tsm", *small, f"out={tmp_path}")
    assert (ended.code, ended.out, ended.err) == (0, "", SAID.format(number.name))
    assert begun == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("told", [tell, tell_a_class_body])
def test_between_two_stages_what_is_finished_stays(told, small, tmp_path, cli, monkeypatch):
    def load(config, run):
        told(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("vitask.runs.train_vlm.train_vlm", load)
        ended = cli("train", "stage=vanilla", "stage.pipeline=[tsm,vanilla]", *small, f"out={tmp_path}")
        assert (ended.code, ended.err) == (0, SAID.format("SIGTERM"))
    assert len(list(tmp_path.glob("*/tsm-*/summary.json"))) == 1
    ended = cli("train", "stage=vanilla", "stage.pipeline=[tsm,vanilla]", *small, f"out={tmp_path}")
    assert ended.code == 0
    assert "tsm: finished before" in ended.out


@pytest.mark.slow
def test_a_pipeline_that_is_trained_again_goes_on_where_it_was_stopped(small, tmp_path, cli, monkeypatch):
    words = ["train", "stage=vanilla", "stage.pipeline=[tsm,vanilla]", *small, f"out={tmp_path}"]
    assert cli(*words).code == 0

    def ids() -> dict[str, str]:
        found = {path.parent.name: json.loads(path.read_text())["id"] for path in tmp_path.glob("*/*/environment.json")}
        return {name.partition("-")[0]: number for name, number in found.items()}

    first = ids()
    with monkeypatch.context() as patch:
        patch.setattr("vitask.runs.train_vlm.train_vlm", lambda config, run: tell(signal.SIGTERM))
        assert cli(*words, "overwrite=true").code == 0
    stopped = ids()
    assert stopped["tsm"] != first["tsm"]
    assert stopped["vanilla"] == first["vanilla"], "put back, as nothing had begun"
    ended = cli(*words, "overwrite=true")
    assert ended.code == 0
    assert "tsm: finished before" in ended.out
    assert ids()["tsm"] == stopped["tsm"]
    assert ids()["vanilla"] != first["vanilla"]
    assert cli(*words, "overwrite=true").code == 0
    assert ids()["tsm"] != stopped["tsm"], "the next command begins with the first stage"
    assert {path.name for path in tmp_path.glob("*/.*")} == set()


@pytest.mark.parametrize("told", [tell, tell_a_class_body])
def test_other_verbs_end_with_130(told, cli, monkeypatch):
    monkeypatch.setattr(importlib.import_module("vitask.cli.report"), "main", lambda words: told(signal.SIGTERM))
    ended = cli("report")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "vitask: interrupted; the same command resumes from the last checkpoint\n"


def test_a_swallowed_signal_is_the_first_of_a_training_loop():
    listen()
    tell_a_swallower(signal.SIGTERM)
    with Preemption() as preemption:
        assert preemption.asked == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    listen()
    with Preemption() as preemption:
        assert preemption.asked is None


def test_a_worker_is_told_twice_of_one_ctrl_c(monkeypatch):
    """By its terminal, and by the grid that ends it; it saves all the same."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a grid")
    with Preemption() as preemption:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert preemption.asked == "SIGINT"


def test_errors_are_their_own_unless_a_signal_came():
    listen()
    with pytest.raises(RuntimeError, match="a bug"), interruptible():
        raise RuntimeError("a bug")
    raise_if_told()
    with pytest.raises(Interrupted), interruptible():
        tell_a_class_body(signal.SIGTERM)
    assert told_by() == "SIGTERM"
    for error in (Stopped("saved"), VitaskError("broken file")):
        with pytest.raises(type(error), match=str(error)), interruptible():
            raise error
    with pytest.raises(Interrupted):
        raise_if_told()


def test_a_signal_that_is_to_be_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listen()
    signal.raise_signal(signal.SIGINT)
    assert told_by() is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("module", "number", "swallowed"),
    [
        ("omegaconf", signal.SIGINT, False),
        ("torch.fx", signal.SIGTERM, False),
        ("vitask.training.loop", signal.SIGINT, False),
        ("transformers", signal.SIGTERM, True),
    ],
)
def test_a_process_that_loads_ends_with_0_and_one_line(module, number, swallowed, small, tmp_path):
    program = PROGRAM.format(module=module, number=number.name, swallowed=swallowed)
    ended = subprocess.run(
        [sys.executable, "-c", program, "train", "stage=tsm", *small, f"out={tmp_path}"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        preexec_fn=hear_ctrl_c,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (0, SAID.format(number.name))
    assert list(tmp_path.iterdir()) == []
