"""A regression with ragged rows and dropout: small enough for exact arithmetic, wide enough to go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from vitask.losses import count_valid, masked_mean
from vitask.training.checkpoint import Checkpoints
from vitask.training.loop import Loop, LoopSettings
from vitask.training.recorder import Recorder

LENGTHS = (1, 5, 2, 4, 1, 3, 6, 2, 5, 1)


class Interrupted(Exception):
    """Stands for a kill."""


class ToyTask(nn.Module):
    def __init__(self, seed: int = 0, dropout: float = 0.0, reduction: str = "token", dtype=torch.float64) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = nn.Linear(3, 4, dtype=dtype).requires_grad_(False)
        self.linear = nn.Linear(4, 1, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.reduction = reduction

    def counts(self, batch):
        return {"error": count_valid(batch["mask"], self.reduction)}

    def forward(self, batch, totals, progress):
        hidden = self.dropout(self.frozen(batch["x"]).tanh())
        error = (self.linear(hidden).squeeze(-1) - batch["y"]).square()
        part = masked_mean(error, batch["mask"], self.reduction, totals["error"])
        return {"loss": part, "error": part}


class ToyData:
    """Rows of 1 to 6 points each; `broken` is the index of a row that holds a NaN."""

    def __init__(self, broken: int | None = None, dtype=torch.float64) -> None:
        generator = torch.Generator().manual_seed(11)
        self.x = torch.randn(len(LENGTHS), max(LENGTHS), 3, generator=generator, dtype=dtype)
        self.y = torch.randn(len(LENGTHS), max(LENGTHS), generator=generator, dtype=dtype)
        if broken is not None:
            self.x[broken, 0] = torch.nan

    def __len__(self):
        return len(LENGTHS)

    def keys(self, epoch, steps):
        return steps

    def __getitem__(self, key):
        return key

    def collate(self, items):
        mask = torch.arange(max(LENGTHS)) < torch.tensor([LENGTHS[i] for i in items])[:, None]
        return {"id": torch.tensor(items), "x": self.x[items], "y": self.y[items], "mask": mask}


def settings(**changes) -> LoopSettings:
    values = {
        "epochs": 2,
        "batch_size": 4,
        "micro_batch_size": None,
        "clip": 1.0,
        "workers": 0,
        "log_every": 1,
        "save_every": 0,
        "seed": 0,
    }
    return LoopSettings(**{**values, **changes})


def adamw(task: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=0.05)


def decaying(optimizer, steps: int):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)


def make_loop(
    folder: Path, accelerator, task=None, data=None, optimizer=adamw, options=None, after_step=None, **changes
) -> Loop:
    """A loop over the toy; `changes` are settings, `options` keywords of `Loop`; `after_step` may interrupt it."""
    task = task or ToyTask()
    built = optimizer(task)
    if after_step is not None:
        built.register_step_post_hook(lambda *_: after_step())
    return Loop(
        task,
        data or ToyData(),
        built,
        decaying,
        settings(**changes),
        accelerator,
        Checkpoints(folder / "checkpoints"),
        **(options or {}),
    )


def train(folder: Path, accelerator, *args, **kwargs) -> dict[str, torch.Tensor]:
    """Train (or resume) into a folder and return what has trained."""
    folder.mkdir(exist_ok=True)
    loop = make_loop(folder, accelerator, *args, **kwargs)
    recorder = Recorder(folder, accelerator, resume_from=loop.step)
    loop.run(recorder)
    recorder.finish()
    return {name: p.detach().clone() for name, p in loop.bare_task.named_parameters() if p.requires_grad}


def log_lines(folder: Path) -> list[dict]:
    """The log without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "samples_per_second"} for row in rows]
