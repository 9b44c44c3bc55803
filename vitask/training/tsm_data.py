"""The TSM's training split: augmented pixels and targets, mixed in pairs or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vitask.data import member_of_answer
from vitask.training.sampling import seeded

if TYPE_CHECKING:
    from PIL.Image import Image
    from timm.data import Mixup
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


MIXING = 0x6D6978  # keeps the draws of a mixture apart from those of augmentation and data order


class TSMTrainingData:
    """Items are (pixels, index, targets); what is random in them is a pure function of seed, epoch and optimiser step.

    With `mixing` every image of an optimiser step is mixed with another of the same step and data set, each being the
    other one of exactly one. Both are augmented as they are without mixing, and the shares are drawn anew for each.

    Args:
        task: the data.
        transform: from a PIL image to pixels `(C, H, W)`, possibly random.
        seed: of augmentation and mixing.
        mixing: mixes two images, and says by its targets in which shares.
    """

    def __init__(
        self, task: TaskData, transform: Callable[[Image], Tensor], seed: int, mixing: Mixup | None = None
    ) -> None:
        self.images = task.splits["train"]["image"]
        self.targets, self.members = joint_targets(task, "train")
        self.transform = transform
        self.seed = seed
        self.mixing = mixing

    def __len__(self) -> int:
        """Number of training images."""
        return len(self.targets)

    def keys(self, epoch: int, steps: Sequence[Sequence[int]]) -> list[list[tuple[Any, ...]]]:
        """Return (epoch, index) for every item; an image that comes again in an epoch has the count as a third.

        With `mixing`, return such a key and that of the other image.
        """
        seen: Counter[int] = Counter()
        keys: list[list[tuple[Any, ...]]] = []
        for step in steps:
            keys.append([])
            for index in step:
                keys[-1].append((epoch, index, seen[index]) if seen[index] else (epoch, index))
                seen[index] += 1
        if self.mixing is None:
            return keys
        return [list(zip(step, self._others(epoch, number, step), strict=True)) for number, step in enumerate(keys)]

    def __getitem__(self, key: tuple[Any, ...]) -> tuple[Tensor, int, Tensor]:
        """Return pixels, index and targets `(labels,)` of one item."""
        if self.mixing is None:
            return self._pixels(key), key[1], self.targets[key[1]]
        own, other = key
        pair = torch.stack([self._pixels(own), self._pixels(other)])
        with seeded(self.seed, *own, MIXING):
            mixed, shares = self.mixing(pair, torch.arange(2))
        return mixed[0], own[1], shares[0] @ self.targets[[own[1], other[1]]]

    def collate(self, items: Sequence[tuple[Tensor, int, Tensor]]) -> Mapping[str, Any]:
        """Return `pixels (B, C, H, W)`, `targets (B, labels)`, `members (B,)` and `id (B,)`."""
        pixels, indices, targets = zip(*items, strict=True)
        rows = torch.tensor(indices)
        return {
            "pixels": torch.stack(pixels),
            "targets": torch.stack(targets),
            "members": self.members[rows],
            "id": rows,
        }

    def _pixels(self, key: tuple[int, ...]) -> Tensor:
        with seeded(self.seed, *key):
            return self.transform(self.images[key[1]])

    def _others(self, epoch: int, number: int, step: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The other image of each of a step: the next one of the same data set in a random circle."""
        rng = np.random.default_rng([self.seed, epoch, number, MIXING])
        members = self.members[[key[1] for key in step]].numpy()
        others = list(step)
        for member in np.unique(members):
            circle = rng.permutation(np.flatnonzero(members == member))
            for place, following in zip(circle, np.roll(circle, -1), strict=True):
                others[place] = step[following]
        return others
