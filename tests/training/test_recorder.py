from __future__ import annotations

import csv
import errno
import json
import os
import socket
import threading
from types import SimpleNamespace

import pytest
from accelerate.state import AcceleratorState

from vitask.config.accelerator import build_accelerator, start_trackers
from vitask.training.recorder import Recorder

from .toy import log_lines, train

ROWS = [(1, {"loss": 0.5, "lr": 0.1}), (2, {"loss": 0.25, "lr": 0.05}), (2, {"epoch": 1, "val/accuracy": 0.75})]


def record(folder, accelerator, rows=ROWS, resume_from=0) -> Recorder:
    recorder = Recorder(folder, accelerator, resume_from)
    for step, values in rows:
        recorder.log(step, values)
    return recorder


def test_csv_holds_the_rows_of_the_log(tmp_path, accelerator):
    record(tmp_path, accelerator).finish()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, **values} for step, values in ROWS]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "loss", "lr", "epoch", "val/accuracy"]
    assert [{key: float(value) for key, value in row.items() if value} for row in rows] == lines


def test_resumed_log_keeps_what_the_checkpoint_knows_and_drops_a_cut_line(tmp_path, accelerator):
    record(tmp_path, accelerator)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 0.')
    record(tmp_path, accelerator, [(3, {"loss": 0.125})], resume_from=2)
    assert [row["step"] for row in log_lines(tmp_path)] == [1, 2, 2, 3]
    record(tmp_path, accelerator, [(2, {"loss": 1.0})], resume_from=1)
    assert [row["step"] for row in log_lines(tmp_path)] == [1, 2]
    record(tmp_path, accelerator, [])
    assert log_lines(tmp_path) == []


def test_what_is_not_finite_is_null_in_the_log_and_empty_in_the_csv(tmp_path, accelerator):
    values = {"loss": 0.5, "val_macro_f1": float("nan"), "grad_norm": float("inf")}
    record(tmp_path, accelerator, [(1, values)]).finish()
    line = {"step": 1, "loss": 0.5, "val_macro_f1": None, "grad_norm": None}
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")) == line
    assert (tmp_path / "log.csv").read_text().splitlines() == [",".join(line), "1,0.5,,"]


def test_a_log_that_cannot_be_shortened_is_not_lost(tmp_path, accelerator, monkeypatch):
    record(tmp_path, accelerator)
    before = (tmp_path / "log.jsonl").read_text()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"No space left on device: .*log\.jsonl"):
        Recorder(tmp_path, accelerator, resume_from=1)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    assert (tmp_path / "log.jsonl").read_text() == before


def test_ranks_other_than_the_main_one_write_nothing(tmp_path):
    logged = []
    rank = SimpleNamespace(is_main_process=False, log=lambda values, step: logged.append((step, values)), trackers=[])
    record(tmp_path, rank).finish()
    assert not list(tmp_path.iterdir())
    assert logged == ROWS


@pytest.fixture
def dead_end(monkeypatch):
    """A server in the place of every tracker's; the list fills when somebody connects."""
    server, visits = socket.create_server(("127.0.0.1", 0)), []

    def listen():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            visits.append(connection)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield visits
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracker", "pattern"), [("wandb", "wandb/offline-run-*/*.wandb"), ("tensorboard", "*/events*")]
)
def test_trackers_write_into_the_run_folder_and_contact_nobody(
    tmp_path, fresh_accelerate, dead_end, monkeypatch, tracker, pattern
):
    pytest.importorskip(tracker)
    monkeypatch.chdir(tmp_path)
    launch = SimpleNamespace(precision="no", device="cpu")
    logger = SimpleNamespace(tracker=tracker, project="vitask", mode="offline")
    folder = tmp_path / "run"
    folder.mkdir()
    accelerator = build_accelerator(launch, logger, folder)
    start_trackers(accelerator, logger, folder, run_id="a1", step=0)
    train(folder, accelerator, epochs=1)
    (written,) = folder.glob(pattern)
    assert written.stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not dead_end


def test_an_interrupted_run_goes_on_in_its_tracker_without_doubles(tmp_path, monkeypatch):
    """wandb: the same id; tensorboard: what stands behind the step is dropped."""
    asked = {}
    accelerator = SimpleNamespace(init_trackers=lambda project, init_kwargs: asked.update(init_kwargs))
    for tracker in ("none", "wandb"):
        logger = SimpleNamespace(tracker=tracker, project="vitask", mode="offline")
        start_trackers(accelerator, logger, tmp_path, run_id="a1", step=7)
        assert bool(asked) == (tracker == "wandb")
    assert (asked["wandb"]["id"], asked["wandb"]["resume"]) == ("a1", "allow")
    assert asked["tensorboard"] == {"purge_step": 8}


@pytest.mark.slow
def test_events_of_tensorboard_have_each_step_once_after_a_resume(tmp_path, fresh_accelerate):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    launch = SimpleNamespace(precision="no", device="cpu")
    logger = SimpleNamespace(tracker="tensorboard", project="vitask", mode="offline")
    for step in (0, 3):
        AcceleratorState._reset_state(True)
        accelerator = build_accelerator(launch, logger, tmp_path)
        start_trackers(accelerator, logger, tmp_path, run_id="a1", step=step)
        rows = [(number, {"loss": float(number)}) for number in range(step + 1, step + 6)]
        record(tmp_path, accelerator, rows, resume_from=step).finish()
    events = EventAccumulator(str(tmp_path / "vitask")).Reload().Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6, 7, 8]
