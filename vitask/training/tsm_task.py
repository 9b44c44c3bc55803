"""Training the task-specific model: its loss on one batch, as a task that the loop can run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitask.tsm.model import TSM


class TSMTask(nn.Module):
    """Cross-entropy (or binary cross-entropy for several labels at once) of a TSM, as sums over exact totals.

    The loss is the sum over the batch's samples divided by `totals["classification"]`. When `totals` adds the counts of
    every micro-batch and rank of a step, accumulated gradients equal those of one large batch exactly.

    Args:
        tsm: the model to train.
        multi_label: targets are multi-hot `(B, num_classes)` instead of indices `(B,)`.
        label_smoothing: share of the target spread evenly over the classes (over yes and no when `multi_label`).
        class_weights: `(num_classes,)`; a sample weighs as its class does. With `multi_label`: the weight of each
            label's positives. See `balanced_class_weights`.

    Example:
        >>> task = TSMTask(tsm, multi_label=False)
        >>> batch = {"pixels": torch.zeros(4, 3, 28, 28), "targets": torch.tensor([0, 1, 1, 0])}
        >>> task(batch, task.counts(batch))["loss"]
        tensor(0.6931, grad_fn=<DivBackward0>)
    """

    def __init__(
        self, tsm: TSM, multi_label: bool, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.tsm, self.multi_label, self.label_smoothing = tsm, multi_label, label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the loss of `batch` is divided by: its samples, or the sum of their class weights."""
        targets = batch["targets"]
        if self.class_weights is None or self.multi_label:
            return {"classification": torch.tensor(len(targets), dtype=torch.float64)}
        return {"classification": self.class_weights[targets].double().sum()}

    def forward(
        self, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor], progress: float = 0.0
    ) -> dict[str, Tensor]:
        """Return `loss` and its only part `classification` (detached), scalars.

        Args:
            batch: `pixels (B, C, H, W)` and `targets`, `(B,)` long or `(B, num_classes)` multi-hot.
            totals: the step's counts, at least those of `batch`.
        """
        logits = self.tsm(batch["pixels"])
        logits = logits if logits.dtype == torch.float64 else logits.float()
        total = totals["classification"].to(device=logits.device, dtype=logits.dtype)
        loss = self._sum(logits, batch["targets"]) / total
        return {"loss": loss, "classification": loss.detach()}

    def _sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over samples; with several labels, each sample's is the mean over its labels."""
        if not self.multi_label:
            weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
            return F.cross_entropy(logits, targets, weights, reduction="sum", label_smoothing=self.label_smoothing)
        smooth = targets.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        terms = F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights, reduction="none")
        return terms.mean(1).sum()


def balanced_class_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Return weights `(num_classes,)` under which every class counts the same in training.

    For indices `(N,)`: N / (num_classes * count), 1 on average over the samples. For multi-hot `(N, num_classes)`:
    negatives / positives of each label. A class without samples is treated as if it had one.

    Example:
        >>> balanced_class_weights(torch.tensor([0, 1, 1, 1]), 2)
        tensor([2.0000, 0.6667])
    """
    if targets.ndim == 2:
        positives = targets.sum(0).float()
        return (len(targets) - positives) / positives.clamp(min=1)
    return len(targets) / (num_classes * torch.bincount(targets, minlength=num_classes).float().clamp(min=1))
