"""One tiny measurement through the command line, which most tests read."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from vitask.bench.material import Batches, make_material
from vitask.bench.sizes import SIZES, Models

from ..conftest import call

CPU = torch.device("cpu")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def measured(tmp_path_factory):
    """How `vitask bench size=tiny` ended, and its JSON."""
    out = tmp_path_factory.mktemp("bench") / "deeper" / "bench.json"
    ended = call(["bench", "size=tiny", "device=cpu", "batch_size=3", "repeats=2", "warmup=0", f"out={out}"])
    assert ended.code == 0, ended
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]
    return SimpleNamespace(ended=ended, out=out, result=json.loads(out.read_text()))


@pytest.fixture(scope="session")
def tiny():
    """Models and a batch of the tiny size."""
    models = Models(SIZES["tiny"], CPU, torch.float32)
    return SimpleNamespace(models=models, batches=Batches(make_material(SIZES["tiny"], 3, 0, CPU), models.vlm()))
