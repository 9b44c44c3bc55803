"""The answers that a training sample is scored against by the closed-set terms: those of its data set, or a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import pad

from vitask.data import answer_ranges, label_ranges, member_of_answer, members_of

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.data import TaskData


class Candidates:
    """Chooses each sample's candidates, a pure function of (seed, epoch, index).

    A sample competes with the answers of its own data set. With more of them than `limit`, half of the candidates are
    those that the TSM finds likeliest, the rest is drawn uniformly, and the true answer is always there.

    Args:
        task: the data; its closed sets of answers.
        limit: how many answers a sample is scored against; `None` for all.
        seed: of the draws.
        teacher_logits: the TSM's logits by sample `(N, labels)`, if there is a TSM.

    Example:
        >>> Candidates(digits, limit=4, seed=0).draw(epoch=0, index=7, truth=3)
        [0, 3, 5, 8]
    """

    def __init__(self, task: TaskData, limit: int | None, seed: int, teacher_logits: Tensor | None = None) -> None:
        self.multi_label = task.multi_label
        self.member_of = member_of_answer(task)
        self.answers = [
            answers[: member.candidates] for member, answers in zip(members_of(task), answer_ranges(task), strict=True)
        ]
        self.labels = label_ranges(task)
        self.several = [member.multi_label for member in members_of(task)]
        self.limit = limit
        self.seed = seed
        self.teacher_logits = teacher_logits
        self.membership = torch.zeros(len(task.answers), len(task.labels), dtype=torch.bool)
        for row, answer in enumerate(task.answers):
            self.membership[row, list(answer.labels)] = True

    def draw(self, epoch: int, index: int, truth: int) -> list[int]:
        """Return the candidates of one sample, ascending; `truth` is its own answer."""
        possible = self.answers[self.member_of[truth]]
        if self.limit is None or self.limit >= len(possible):
            return list(possible)
        chosen = {truth, *self._likeliest(index, possible)[: self.limit // 2]}
        others = np.random.default_rng([self.seed, epoch, index]).permutation(possible).tolist()
        return sorted([*chosen, *(other for other in others if other not in chosen)][: self.limit])

    def describe(
        self, chosen: Sequence[Sequence[int]], indices: Sequence[int], truths: Sequence[int]
    ) -> dict[str, Tensor]:
        """Say what the candidates of a batch mean.

        Args:
            chosen: the candidates of each sample, K at most.
            indices: the samples.
            truths: their own answers.

        Returns:
            `valid (B, K)` bool, false where a sample has fewer. One label an image: `targets (B,)`, the place of the
            true answer among the candidates, and the TSM's logits of the candidates `teacher (B, K)`. Several:
            `targets (B, labels)` multi-hot, `teacher (B, labels)`, and `membership (B, K, labels)` bool, the labels of
            each candidate. `teacher` is left out without a TSM.
        """
        most = max(map(len, chosen))
        table = torch.stack([pad(torch.tensor(row), (0, most - len(row)), value=-1) for row in chosen])
        described = {"valid": table >= 0}
        teacher = None
        if self.teacher_logits is not None:
            teacher = torch.stack([self._teacher(*pair) for pair in zip(indices, truths, strict=True)])
        if self.multi_label:
            described["targets"] = self.membership[torch.tensor(truths)].float()
            described["membership"] = self.membership[table] & described["valid"].unsqueeze(-1)
        else:
            described["targets"] = (table == torch.tensor(truths)[:, None]).int().argmax(-1)
            teacher = teacher.gather(1, table.clamp(min=0)) if teacher is not None else None
        return described if teacher is None else {**described, "teacher": teacher}

    def _teacher(self, index: int, truth: int) -> Tensor:
        """The TSM's logits of one sample; beside sets of several labels, those of a single-label set as log-odds."""
        logits, member = self.teacher_logits[index], self.member_of[truth]
        if not self.multi_label or self.several[member]:
            return logits
        own = slice(self.labels[member].start, self.labels[member].stop)
        log_p = logits[own].log_softmax(-1)
        log_odds = torch.zeros_like(logits)
        log_odds[own] = log_p - torch.log1p(-log_p.exp().clamp(max=1 - 1e-7))
        return log_odds

    def _likeliest(self, index: int, possible: range) -> list[int]:
        """The answers of a data set, the one that the TSM finds likeliest first."""
        if self.teacher_logits is None:
            return []
        logits = self.teacher_logits[index]
        scores = self.membership[possible.start : possible.stop].to(logits) @ logits
        return [possible[place] for place in scores.argsort(descending=True).tolist()]
