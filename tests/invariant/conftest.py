"""One start of two ranks for all tests of this folder, and the table of what was equal and by how much it was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ..conftest import Ended
from ..training.conftest import accelerator, fresh_accelerate, one_thread
from .toy import trained

__all__ = ["accelerator", "fresh_accelerate", "one_thread"]

VIT = (
    "tsm=vit_base", "tsm.pretrained=false", "tsm.name=vit_tiny_patch16_224",
    "tsm.model_args={img_size: 32, patch_size: 8, depth: 2, embed_dim: 32, num_heads: 2}",
    "tsm.optim.name=sgd", "tsm.optim.lr=0.05", "tsm.ema=0.9", "tsm.mixup=0.4", "tsm.cutmix=1",
    "tsm.optim.epochs=2", "tsm.optim.batch_size=9", "tsm.optim.micro_batch_size=2",
)  # fmt: skip
"""A TSM without batch statistics, which differ from rank to rank; everything that it draws is drawn a sample."""
TERMS = (
    "objective.csa=1", "objective.ranking=0.5", "optim.batch_size=7", "optim.micro_batch_size=2",
    "optim.name=sgd", "optim.lr=0.05", "optim.connector_lr=0.05",
)  # fmt: skip
"""24 samples in steps of 7: the last has 3, one for one rank and two for the other. AdamW, which divides by the size of
a gradient, would move a weight by the whole rate for one that is rounding alone; tests/runs/test_ranks.py has it."""


@dataclass(frozen=True)
class TwoRanks:
    """What two ranks have left: outcomes of the toy's cases, their folder, and how each rank's commands ended."""

    folder: Path
    overrides: list[str]
    cases: dict[str, dict[str, Any]]
    main: list[Ended]
    other: list[Ended]

    def run(self, out: str, stage: str) -> Path:
        """A run folder of the commands that trained into `out`."""
        (found,) = (self.folder / out / "shapes").glob(f"{stage}-seed0-*")
        return found


@pytest.fixture(scope="session")
def two_ranks(small, tmp_path_factory) -> TwoRanks:
    """Start two ranks once and let them do everything that is asked of two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    overrides = [*small, *VIT, *TERMS]
    train = ["train", "stage=all", "stage.pipeline=[tsm,vanilla,ep,crt]", *overrides]
    commands = [
        [*train, f"out={folder / 'whole'}"],
        ["train", "stage=head", *overrides, f"out={folder / 'whole'}"],
        ["train", "stage=crt", *overrides, f"out={folder / 'split'}", "step=plain", "launch.shard=true"],
        ["evaluate", f"run={folder / 'whole/shapes/crt-*'}", "device=cpu"],
        ["evaluate", f"run={folder / 'whole/shapes/crt-*'}", "device=cpu", "exemplar=off", "ranking=true", "split=val"],
        ["evaluate", f"run={folder / 'whole/shapes/head-*'}", "device=cpu"],
    ]
    (folder / "commands.json").write_text(json.dumps(commands))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.invariant.worker", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert ended.returncode == 0, ended.stderr[-12000:]
    rows = json.loads((folder / "cases.json").read_text())
    cases = {name: {"weights": load_file(folder / f"{name}.st"), "rows": rows[name]} for name in rows}
    main, other = (
        [Ended(**each) for each in json.loads((folder / f"ended-{rank}.json").read_text())] for rank in range(2)
    )
    return TwoRanks(folder, overrides, cases, main, other)


@pytest.fixture(scope="session")
def equal() -> Callable[..., None]:
    """`equal(name, found, allowed)` asserts that a difference is small and notes it; `pytest -s` prints the table."""
    table: list[tuple[str, float, float]] = []

    def note(name: str, found: float, allowed: float) -> None:
        table.append((name, found, allowed))
        assert found <= allowed, f"{name}: differs by {found:.2e}, allowed is {allowed:.0e}"

    yield note
    width = max((len(name) for name, _, _ in table), default=0)
    print("\n" + "\n".join(f"| {name:<{width}} | {found:8.1e} | {allowed:6.0e} |" for name, found, allowed in table))


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """`reference(accelerator, stage, **changes)`: a training in one process, done once for all tests."""
    kept = {}

    def get(accelerator, **changes):
        key = str(sorted(changes.items()))
        if key not in kept:
            kept[key] = trained(tmp_path_factory.mktemp("one"), accelerator, **changes)
        return kept[key]

    return get
