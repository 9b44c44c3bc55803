"""The VITask task: a batch of images and responses to the losses of the stage, in one forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.training.answers import AnswerCounts
    from vitask.training.objective import Objective
    from vitask.vlm.model import ExemplarVLM


class VITask(nn.Module):
    """An exemplar-prompting VLM with an objective; what the loop trains and DDP wraps.

    Args:
        vlm: the model.
        objective: the stage's terms and weights.
        answers: counts what is answered, where answers are of a closed set.
    """

    def __init__(self, vlm: ExemplarVLM, objective: Objective, answers: AnswerCounts | None = None) -> None:
        super().__init__()
        self.vlm = vlm
        self.objective = objective
        self.answers = answers

    def counts(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count what each loss part is averaged over in this micro-batch, and its samples."""
        return {**self.objective.counts(batch), "samples": torch.tensor(len(batch["id"]), device=batch["id"].device)}

    def forward(self, batch: Mapping[str, Any], totals: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Return `{"loss", part, ...}` of one micro-batch, normalised by the totals of the whole optimiser step.

        With CRT also `without_negative`, the share of samples that have no negative image and so no part in it; with a
        closed set also `answers`, see `AnswerCounts`: without the exemplar, or with it if there is no such branch.
        """
        outputs = self.vlm(batch)
        parts = self.objective(outputs, batch, totals, progress)
        logits = outputs.get("vanilla", outputs.get("exemplar"))
        if self.answers is not None and logits is not None:
            parts["answers"] = self.answers(logits, batch["labels"])
        if "crt" in parts:
            parts["without_negative"] = (~batch["has_negative"]).sum() / totals["samples"]
        return parts
