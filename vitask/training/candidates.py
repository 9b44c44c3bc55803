"""The answers that a training sample is scored against by the closed-set terms: the whole closed set, or a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.data import TaskData


class Candidates:
    """Chooses each sample's candidates, a pure function of (seed, epoch, index).

    With more answers than `limit`, half of the candidates are those that the TSM finds likeliest, the rest is drawn
    uniformly, and the true answer is always there.

    Args:
        task: the data; its closed set of answers.
        limit: how many answers a sample is scored against; `None` for all.
        seed: of the draws.
        teacher_logits: the TSM's logits by sample `(N, labels)`, if there is a TSM.

    Example:
        >>> Candidates(digits, limit=4, seed=0).draw(epoch=0, index=7, truth=3)
        [0, 3, 5, 8]
    """

    def __init__(self, task: TaskData, limit: int | None, seed: int, teacher_logits: Tensor | None = None) -> None:
        self.multi_label = task.multi_label
        self.count = task.candidates
        self.limit = limit
        self.seed = seed
        self.teacher_logits = teacher_logits
        self.membership = torch.zeros(self.count, len(task.labels), dtype=torch.bool)
        for row, answer in enumerate(task.answers[: self.count]):
            self.membership[row, list(answer.labels)] = True

    def draw(self, epoch: int, index: int, truth: int) -> list[int]:
        """Return the candidates of one sample, ascending; `truth` is its own answer."""
        if self.limit is None or self.limit >= self.count:
            return list(range(self.count))
        chosen = {truth, *self._likeliest(index)[: self.limit // 2]}
        others = np.random.default_rng([self.seed, epoch, index]).permutation(self.count).tolist()
        return sorted([*chosen, *(other for other in others if other not in chosen)][: self.limit])

    def describe(
        self, chosen: Sequence[Sequence[int]], indices: Sequence[int], truths: Sequence[int]
    ) -> dict[str, Tensor]:
        """Say what the candidates of a batch mean.

        Args:
            chosen: the candidates of each sample, equally many.
            indices: the samples.
            truths: their own answers.

        Returns:
            `valid (B, K)` bool, all true. One label an image: `targets (B,)`, the place of the true answer among the
            candidates, and the TSM's logits of the candidates `teacher (B, K)`. Several: `targets (B, labels)`
            multi-hot, `teacher (B, labels)`, and `membership (B, K, labels)` bool, the labels of each candidate.
            `teacher` is left out without a TSM.
        """
        table, own = torch.tensor(chosen), torch.tensor(truths)
        described = {"valid": torch.ones_like(table, dtype=torch.bool)}
        teacher = torch.stack([self.teacher_logits[i] for i in indices]) if self.teacher_logits is not None else None
        if self.multi_label:
            described |= {"targets": self.membership[own].float(), "membership": self.membership[table]}
        else:
            described["targets"] = (table == own[:, None]).int().argmax(-1)
            teacher = teacher.gather(1, table) if teacher is not None else None
        return described if teacher is None else {**described, "teacher": teacher}

    def _likeliest(self, index: int) -> list[int]:
        """Every answer, the one that the TSM finds likeliest first."""
        if self.teacher_logits is None:
            return []
        logits = self.teacher_logits[index]
        scores = self.membership.to(logits) @ logits if self.multi_label else logits
        return scores.argsort(descending=True).tolist()
