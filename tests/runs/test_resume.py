"""A run that is killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import hear_ctrl_c

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
LONG = ["stage=ep", "optim.epochs=8", "launch.save_every=2"]  # 24 steps


def start(arguments: list[str]) -> subprocess.Popen:
    """Start a training that heeds Ctrl-C even where the suite runs in the background and is told to ignore it."""
    return subprocess.Popen(
        [sys.executable, "-m", "vitask", "train", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


def wait_for_checkpoint(process: subprocess.Popen, out: Path) -> Path:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        if found := list(out.glob("shapes/ep-*/checkpoints/step-????????")):
            return found[0]
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    raise AssertionError("no checkpoint in 400 seconds")


def logged(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key != "samples_per_second"} for line in lines]


def model(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{name}:{key}": tensor
        for name in ("adapter/adapter_model.safetensors", "connector.safetensors")
        for key, tensor in load_file(run / "model" / name).items()
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_killed_ends_bit_for_bit_like_one_that_was_not(own_pipeline, tmp_path, cli):
    whole = [*own_pipeline.arguments, *LONG]
    before = set((own_pipeline.out / "shapes").iterdir())
    assert cli("train", *whole).code == 0
    (wanted,) = set((own_pipeline.out / "shapes").iterdir()) - before

    broken = tmp_path / "broken"
    tsm = own_pipeline.run("tsm")
    (broken / "shapes").mkdir(parents=True)
    (broken / "shapes" / tsm.name).symlink_to(tsm)
    arguments = [*own_pipeline.overrides, f"out={broken}", *LONG]
    process = start(arguments)
    try:
        checkpoint = wait_for_checkpoint(process, broken)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run = checkpoint.parent.parent
    assert not (run / "summary.json").exists(), "killed too late to show anything"
    assert run.name == wanted.name

    ended = cli("train", *arguments)
    assert ended.code == 0, ended
    assert model(run).keys() == model(wanted).keys()
    assert all(torch.equal(tensor, model(wanted)[name]) for name, tensor in model(run).items())
    assert logged(run) == logged(wanted)
    assert [line["step"] for line in logged(run)] == list(range(1, 25))
    assert not (run / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_saves_and_says_how_to_go_on(own_pipeline, tmp_path, number):
    broken = tmp_path / "broken"
    (broken / "shapes").mkdir(parents=True)
    (broken / "shapes" / own_pipeline.run("tsm").name).symlink_to(own_pipeline.run("tsm"))
    process = start([*own_pipeline.overrides, f"out={broken}", *LONG, "optim.epochs=200", "launch.save_every=3"])
    try:
        checkpoint = wait_for_checkpoint(process, broken)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    last = said.splitlines()[-1]
    pattern = rf"vitask: stopped by {number.name} after step (\d+) of 600; .* goes on from there"
    found = re.fullmatch(pattern, last)
    assert "Traceback" not in said
    newest = max(path.name for path in checkpoint.parent.glob("step-*"))
    assert newest == f"step-{int(found[1]):08d}"


def test_a_run_without_an_intact_checkpoint_says_so(small, tmp_path, cli):
    bad = ["stage=vanilla", "optim.lr=1e10", "optim.warmup=0", "optim.clip=0", "launch.save_every=1", f"out={tmp_path}"]
    assert cli("train", *small, *bad).code == 1
    (state,) = tmp_path.rglob("state.pt")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.warns(RuntimeWarning, match=r"state.pt changed since it was written"):
        ended = cli("train", *small, *bad)
    assert ended.refuses(1, str(state.parent.parent), "no checkpoint is intact", "remove the folder")
