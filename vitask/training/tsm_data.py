"""The TSM's training split: augmented pixels and targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from vitask.data import member_of_answer
from vitask.training.sampling import seeded

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from vitask.data import TaskData


def label_targets(task: TaskData, split: str) -> Tensor:
    """Return the targets of a split: class indices `(N,)` int64, or multi-hot `(N, labels)` float32."""
    answers = task.splits[split]["answer"][:]
    if not task.multi_label:
        return torch.tensor(answers)
    table = torch.zeros(len(task.answers), len(task.labels))
    for row, answer in enumerate(task.answers):
        table[row, list(answer.labels)] = 1.0
    return table[torch.tensor(answers)]


def joint_targets(task: TaskData, split: str) -> tuple[Tensor, Tensor]:
    """Return the labels of each image among those of all data sets, and its data set.

    Returns:
        `(N, labels)` float32 multi-hot, and `(N,)` int64.
    """
    table = torch.zeros(len(task.answers), len(task.labels))
    for row, answer in enumerate(task.answers):
        table[row, list(answer.labels)] = 1.0
    answers = torch.tensor(task.splits[split]["answer"][:])
    return table[answers], torch.tensor(member_of_answer(task))[answers]


class TSMTrainingData:
    """Items are (pixels, index); augmentation is a pure function of seed, epoch, index and repetition.

    Args:
        task: the data.
        transform: from a PIL image to pixels `(C, H, W)`, possibly random.
        seed: of the augmentation; `None` for a transform without any.
    """

    def __init__(self, task: TaskData, transform: Callable[[Image], Tensor], seed: int | None) -> None:
        self.images = task.splits["train"]["image"]
        self.targets, self.members = joint_targets(task, "train")
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        """Number of training images."""
        return len(self.targets)

    def keys(self, epoch: int, steps: Sequence[Sequence[int]]) -> list[list[tuple[int, ...]]]:
        """Return (epoch, index) for every item; an image that comes again in an epoch has the count as a third."""
        seen: Counter[int] = Counter()
        keys = []
        for step in steps:
            keys.append([(epoch, index, seen[index]) if seen[index] else (epoch, index) for index in step])
            seen.update(step)
        return keys

    def __getitem__(self, key: tuple[int, ...]) -> tuple[Tensor, int]:
        """Return pixels and index of one item."""
        index = key[1]
        with nullcontext() if self.seed is None else seeded(self.seed, *key):
            return self.transform(self.images[index]), index

    def collate(self, items: Sequence[tuple[Tensor, int]]) -> Mapping[str, Any]:
        """Return `pixels (B, C, H, W)`, `targets (B, labels)` multi-hot, `members (B,)` and `id (B,)`."""
        pixels, indices = zip(*items, strict=True)
        rows = torch.tensor(indices)
        return {
            "pixels": torch.stack(pixels),
            "targets": self.targets[rows],
            "members": self.members[rows],
            "id": rows,
        }
