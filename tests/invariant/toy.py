"""Every stage on ten pictures, trained in one way or another: what is equal in theory has to be equal here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitask.data import BatchNegatives
from vitask.training.head import HeadTask, HeadTrainingData
from vitask.training.tsm_data import TSMTrainingData
from vitask.training.tsm_task import TSMTask, joint_heads
from vitask.training.vitask_task import VITask
from vitask.tsm import build_transform
from vitask.vlm.adapt import checkpoint_activations
from vitask.vlm.classifier import VLMClassifier
from vitask.vlm.prompts import PromptTable

from ..training.tiny_task import make_data, make_toy_task, make_vitask
from ..training.toy import log_lines, train
from ..tsm.tiny import make_tsm
from ..vlm.tiny import make_vlm, tiny_prompter

JOINT = {"vanilla": 1.0, "ep": 1.0, "rda": 0.5}
OBJECTIVES = {
    "vanilla": {"vanilla": 1.0},
    "ep": JOINT,
    "crt": {**JOINT, "crt": 0.3},
    "closed set": {"vanilla": 1.0, "ranking": 0.5, "csa": 0.5},
}
STAGES = ("tsm", "head", *OBJECTIVES)
ANSWERING = tuple(OBJECTIVES)
LAYERS = {"Qwen2DecoderLayer"}


class OneSided(BatchNegatives):
    """Finds no negative for the first half of a step, so that the first of two ranks has none."""

    def draw(self, epoch: int, indices: Sequence[int], *args: Any) -> list[int]:
        drawn = super().draw(epoch, indices, *args)
        return [-1 if row < len(drawn) // 2 else negative for row, negative in enumerate(drawn)]


def sgd(task: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.01, momentum=0.9)


def build(
    stage: str, *, packed: bool = True, negatives: str = "dataset", checkpointing: bool = False, **weights: float
) -> tuple[nn.Module, Any]:
    """A stage's task and data; `weights` are terms to add; `negatives`: dataset, batch or one-sided."""
    toy = make_toy_task()
    if stage == "tsm":
        tsm = make_tsm("vit")
        data = TSMTrainingData(toy, build_transform(tsm.data_config, None, training=True), 0)
        return TSMTask(tsm, joint_heads(toy, data.targets, data.members, balanced=True)), data
    if stage == "head":
        data = HeadTrainingData(toy, PromptTable(toy.splits["train"]["image"], tiny_prompter(), "Which?"))
        vlm = make_vlm(None)
        torch.manual_seed(0)
        return HeadTask(VLMClassifier(vlm, 3), joint_heads(toy, data.targets, data.members, balanced=False)), data
    task: VITask = make_vitask({**OBJECTIVES[stage], **weights})
    task.vlm.connector.requires_grad_("ep" in OBJECTIVES[stage])
    if checkpointing:
        checkpoint_activations(task.vlm.base, task.vlm.family)
    kind = "dataset" if negatives == "dataset" else "batch"
    data = make_data(task.objective.branches, task.vlm.placement, kind, packed=packed)
    if negatives == "one-sided":
        data.negatives = OneSided(seed=0)
    return task, data


def trained(folder: Path, accelerator: Any, stage: str, *, sharded: bool = False, **changes: Any) -> dict[str, Any]:
    """Train a stage and return `weights` and `rows` of the log; ten samples in steps of seven, so the last has three.

    `changes` are those of `build`, and settings of the loop.
    """
    about = {name: changes.pop(name) for name in ("packed", "negatives", "checkpointing") if name in changes}
    weights = {name: changes.pop(name) for name in tuple(changes) if name in OBJECTIVES["crt"]}
    task, data = build(stage, **about, **weights)
    settings = {"batch_size": 7, "micro_batch_size": 2, **changes}
    options = {"layers": LAYERS} if sharded else {}
    weights = train(folder, accelerator, task, data, sgd, options=options, **settings)
    return {"weights": weights, "rows": log_lines(folder)}


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """The largest difference of any weight, and of any logged value, relative where it is above 1, of two trainings."""
    assert one["weights"].keys() == other["weights"].keys()
    assert [row.keys() for row in one["rows"]] == [row.keys() for row in other["rows"]]
    weights = max((tensor - other["weights"][name]).abs().max().item() for name, tensor in one["weights"].items())
    rows = zip(one["rows"], other["rows"], strict=True)
    return weights, max(abs(row[key] - again[key]) / max(1.0, abs(row[key])) for row, again in rows for key in row)


def moved(stage: str, outcome: dict[str, Any]) -> float:
    """How far training moved the weights: what a difference has to be small against."""
    begun = build(stage)[0].state_dict()
    return max((tensor - begun[name]).abs().max().item() for name, tensor in outcome["weights"].items())


WEIGHTS, LOGGED = 1e-6, 5e-5
"""float32: what the order of summation may change of a weight, and of a logged loss or norm."""


def compare(equal, name, one, other, weights=WEIGHTS, logged=LOGGED):
    found = difference(one, other)
    equal(f"{name}: weights", found[0], weights)
    equal(f"{name}: log", found[1], logged)
