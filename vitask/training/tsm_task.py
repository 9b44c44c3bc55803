"""Training the task-specific model: its loss on one batch, as a task that the loop can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitask.data import label_ranges, members_of
from vitask.tsm.model import TSM

if TYPE_CHECKING:
    from vitask.data import TaskData


@dataclass(frozen=True)
class Head:
    """The part of the joint head that belongs to one data set.

    Attributes:
        labels: its columns.
        multi_label: whether an image may have any number of its labels.
        weights: of the labels, `(labels,)`; a sample weighs as its label does. With `multi_label`: the weight of each
            label's positives. See `balanced_class_weights`.
    """

    labels: range
    multi_label: bool
    weights: Tensor | None = None

    def columns(self, joint: Tensor) -> Tensor:
        """Return this head's part of `(B, all labels)`."""
        return joint[:, self.labels.start : self.labels.stop]


class JointClassification(nn.Module):
    """Cross-entropy (or binary cross-entropy for several labels at once) of a classifier, as sums over exact totals.

    One head holds the labels of all data sets; each sample's loss sees the logits of its own set alone (paper,
    section 3). The loss is the sum over the batch's samples divided by `totals["classification"]`. When `totals` adds
    the counts of every micro-batch and rank of a step, accumulated gradients equal those of one large batch exactly.

    Args:
        heads: one a data set.
        label_smoothing: share of the target spread evenly over the classes (over yes and no when `multi_label`).
    """

    def __init__(self, heads: Sequence[Head], label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.heads, self.label_smoothing = tuple(heads), label_smoothing

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the loss of `batch` is divided by: its samples, or the sum of their class weights."""
        counts = [self._count(head, batch["targets"][batch["members"] == n]) for n, head in enumerate(self.heads)]
        return {"classification": torch.stack(counts).sum()}

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss` and its only part `classification` (detached), scalars.

        Args:
            logits: `(B, labels)`, of the labels of all data sets.
            batch: `targets (B, labels)`, multi-hot or a mean of such, and `members (B,)`, the data set of each sample.
            totals: the step's counts, at least those of `batch`.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        rows = [batch["members"] == number for number in range(len(self.heads))]
        sums = [
            self._sum(head, head.columns(logits[own]), head.columns(batch["targets"][own]).to(logits.dtype))
            for head, own in zip(self.heads, rows, strict=True)
        ]
        loss = torch.stack(sums).sum() / totals["classification"].to(logits)
        return {"loss": loss, "classification": loss.detach()}

    def _count(self, head: Head, targets: Tensor) -> Tensor:
        if head.weights is None or head.multi_label:
            return torch.tensor(len(targets), dtype=torch.float64, device=targets.device)
        return (head.columns(targets).double() @ head.weights.to(targets.device).double()).sum()

    def _sum(self, head: Head, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over samples; with several labels, each sample's is the mean over its labels."""
        weights = None if head.weights is None else head.weights.to(logits)
        if not head.multi_label:
            return F.cross_entropy(logits, targets, weights, reduction="sum", label_smoothing=self.label_smoothing)
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        terms = F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights, reduction="none")
        return terms.mean(1).sum()


class TSMTask(JointClassification):
    """The cross-entropy of a TSM.

    Args:
        tsm: the model to train.
        heads: one a data set.
        label_smoothing: see `JointClassification`.

    Example:
        >>> task = TSMTask(tsm, [Head(range(2), multi_label=False)])
        >>> targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> batch = {"pixels": torch.zeros(2, 3, 28, 28), "targets": targets, "members": torch.tensor([0, 0])}
        >>> task(batch, task.counts(batch))["loss"]
        tensor(0.6931, grad_fn=<DivBackward0>)
    """

    def __init__(self, tsm: TSM, heads: Sequence[Head], label_smoothing: float = 0.0) -> None:
        super().__init__(heads, label_smoothing)
        self.tsm = tsm

    def forward(
        self, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor], progress: float = 0.0
    ) -> dict[str, Tensor]:
        """Return the loss of a batch, `pixels (B, C, H, W)` and what `JointClassification.loss` takes."""
        return self.loss(self.tsm(batch["pixels"]), batch, totals)


def joint_heads(task: TaskData, targets: Tensor, members: Tensor, *, balanced: bool) -> list[Head]:
    """Return the head of each data set; `balanced` weighs its labels so that each counts the same.

    Args:
        task: the data.
        targets: of the training split, `(N, labels)` multi-hot.
        members: the data set of each image, `(N,)`.
        balanced: whether to weigh.
    """
    heads = []
    for number, (member, labels) in enumerate(zip(members_of(task), label_ranges(task), strict=True)):
        head = Head(labels, member.multi_label)
        own = head.columns(targets[members == number])
        heads.append(
            Head(labels, member.multi_label, balanced_class_weights(own, member.multi_label)) if balanced else head
        )
    return heads


def balanced_class_weights(targets: Tensor, multi_label: bool) -> Tensor:
    """Return weights `(labels,)` under which every label counts the same in training.

    Targets are multi-hot `(N, labels)`. With one label an image: N / (labels * count), 1 on average over the samples.
    With several: negatives / positives of each label. A label without samples is treated as if it had one.

    Example:
        >>> balanced_class_weights(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), multi_label=False)
        tensor([2.0000, 0.6667])
    """
    positives = targets.sum(0).float()
    if multi_label:
        return (len(targets) - positives) / positives.clamp(min=1)
    return len(targets) / (targets.shape[1] * positives.clamp(min=1))
