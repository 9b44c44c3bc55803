"""Several processes train one run: they split the work, and agree on files."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SHIPPED = Path(__file__).parents[2] / "configs/accelerate"


def launched(file: str, *words: str) -> subprocess.CompletedProcess:
    """Train on two ranks of this machine, with a configuration that ships; its number of GPUs is overridden."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(free.getsockname()[1])]
    number = ["--num_processes", "2", "--num_machines", "1", "--machine_rank", "0"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(SHIPPED / file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [*launcher, *number, *place, "-m", "vitask", "train", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


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
    ended = launched("multi_gpu.yaml", "stage=crt", *overrides, *terms)
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_that_share_the_model_give_the_run_of_one(small, cli, tmp_path):
    settings = ["stage=vanilla", *small, "optim.name=sgd"]
    assert cli("train", *settings, f"out={tmp_path / 'one'}").code == 0
    ended = launched("multi_node.yaml", *settings, "launch.shard=true", f"out={tmp_path / 'two'}")
    assert ended.returncode == 0, ended.stderr[-3000:]
    one, two = (next((tmp_path / name).glob("shapes/vanilla-*")) for name in ("one", "two"))
    assert one.name == two.name
    wanted, found = (load_file(run / "model/adapter/adapter_model.safetensors") for run in (one, two))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)
