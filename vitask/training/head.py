"""Training a linear head on the VLM: its training split, and its loss on one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vitask.training.tsm_data import joint_targets
from vitask.training.tsm_task import Head, JointClassification
from vitask.training.vitask_data import image_inputs
from vitask.vlm.classifier import VLMClassifier, prompt_branch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.data import TaskData
    from vitask.vlm.image_cache import ImageFeatures
    from vitask.vlm.prompts import Prompt, PromptTable


class HeadTask(JointClassification):
    """The cross-entropy of a VLM's linear head; what the loop trains and DDP wraps.

    Args:
        model: the VLM with its head.
        heads: the part of each data set.
    """

    def __init__(self, model: VLMClassifier, heads: Sequence[Head]) -> None:
        super().__init__(heads)
        self.model = model

    def forward(self, batch: Mapping[str, Any], totals: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Return `loss` and its only part `classification`; see `JointClassification.loss`."""
        return self.loss(self.model(batch), batch, totals)


class HeadTrainingData:
    """Items are (prompt, index): nothing in them is random.

    Args:
        task: the data.
        prompts: the training split's prompts.
        image_features: what the vision tower gives for each image, if it was computed before.
    """

    def __init__(self, task: TaskData, prompts: PromptTable, image_features: ImageFeatures | None = None) -> None:
        self.targets, self.members = joint_targets(task, "train")
        self.prompts = prompts
        self.features = image_features

    def __len__(self) -> int:
        """Number of training images."""
        return len(self.targets)

    def keys(self, epoch: int, steps: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the indices."""
        return [list(step) for step in steps]

    def __getitem__(self, index: int) -> tuple[Prompt, int]:
        """Return the prompt and index of one item."""
        return self.prompts[index], index

    def collate(self, items: Sequence[tuple[Prompt, int]]) -> Mapping[str, Any]:
        """Build a micro-batch as `VLMClassifier` takes it.

        Beside that, `targets (B, labels)` over the labels of all data sets, `members (B,)` and `id (B,)`.
        """
        prompts, indices = zip(*items, strict=True)
        rows = torch.tensor(indices)
        return {
            "prompts": prompt_branch(prompts, self.prompts.prompter),
            **image_inputs(indices, prompts, self.prompts.prompter, self.features),
            "targets": self.targets[rows],
            "members": self.members[rows],
            "id": rows,
        }
