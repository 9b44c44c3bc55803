"""Several processes train one run: they split the work, and agree on files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "vitask"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=240)


def model(run: Path) -> dict[str, torch.Tensor]:
    names = ("adapter/adapter_model.safetensors", "connector.safetensors")
    return {key: tensor for name in names for key, tensor in load_file(run / "model" / name).items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_give_the_run_of_one(own_pipeline, cli):
    """Same global batch, same negatives, same order; what is left is the order of summation."""
    terms = ("objective.csa=1", "objective.ranking=0.5", "optim.micro_batch_size=2")
    before = own_pipeline.run("crt")
    overrides = [word for word in own_pipeline.arguments if word != "launch.device=cpu"]
    ended = cli("train", "stage=crt", *own_pipeline.arguments, *terms)
    assert ended.code == 0, ended
    (run,) = set((own_pipeline.out / "shapes").glob("crt-*")) - {before}
    wanted, log = model(run), (run / "log.csv").read_text().splitlines()
    shutil.rmtree(run)
    ended = torchrun("train", "stage=crt", *overrides, *terms)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count("what trains") == 1, "only the main rank prints"
    found = model(run)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            found[name], tensor, atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    again = (run / "log.csv").read_text().splitlines()
    assert (len(again), again[0]) == (len(log), log[0])
    assert not list(run.rglob("*.tmp"))
