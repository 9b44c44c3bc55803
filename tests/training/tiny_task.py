"""The whole VITask on ten pictures: a task with ragged answers, its data, and a tiny VLM to train."""

from __future__ import annotations

from functools import cache

import datasets
import torch

from vitask.data import BatchNegatives, DatasetNegatives, TaskData, make_task
from vitask.training.candidates import Candidates
from vitask.training.objective import Objective
from vitask.training.vitask_data import VITaskTrainingData
from vitask.training.vitask_task import VITask
from vitask.vlm.prompts import PromptTable

from ..vlm.tiny import EXEMPLAR_DIM, make_vlm, picture, tiny_prompter

LABELS = ("one", "two, three", "a longer label")
ANSWERS = [0, 1, 2, 0, 1, 2, 0, 0, 1, 0]
WEIGHTS = {"vanilla": 1.0, "ep": 1.0, "rda": 0.5, "crt": 0.3}


@cache
def make_toy_task() -> TaskData:
    features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()})
    rows = {"id": [str(i) for i in range(len(ANSWERS))], "image": [picture(i) for i in range(len(ANSWERS))]}
    splits = {name: datasets.Dataset.from_dict(rows, features=features) for name in ("train", "val", "test")}
    targets = {name: [[answer] for answer in ANSWERS] for name in splits}
    return make_task("toy", "noise", LABELS, splits, targets, content="noise", origin="toy")


def make_data(
    branches=("vanilla", "exemplar", "negative"),
    placement=None,
    negatives: str = "dataset",
    tokens: int = 2,
    *,
    packed: bool = True,
    limit: int | None = None,
) -> VITaskTrainingData:
    task = make_toy_task()
    kinds = {
        "dataset": DatasetNegatives(ANSWERS, [0] * len(ANSWERS), seed=0),
        "batch": BatchNegatives(seed=0),
    }
    return VITaskTrainingData(
        task,
        PromptTable(task.splits["train"]["image"], tiny_prompter(), "Which?"),
        [tiny_prompter().response(answer.text) for answer in task.answers],
        branches,
        packed=packed,
        placement=placement,
        exemplars=exemplar_features(tokens),
        negatives=kinds[negatives],
        candidates=Candidates(task, limit, seed=0, teacher_logits=teacher_logits()),
    )


def teacher_logits() -> torch.Tensor:
    return torch.randn(len(ANSWERS), 3, generator=torch.Generator().manual_seed(4))


def exemplar_features(tokens: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(ANSWERS), tokens, EXEMPLAR_DIM, generator=generator)


def make_vitask(weights=WEIGHTS, **options) -> VITask:
    return VITask(make_vlm("after_image", 2), Objective(weights, **options))
