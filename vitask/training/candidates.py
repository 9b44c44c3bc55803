"""The answers that a training sample is scored against by the closed-set terms: those of its data set, or a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import pad

from vitask.data import answer_ranges, member_of_answer, members_of
from vitask.losses import label_log_odds

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
        self.member_of = member_of_answer(task)
        self.several = [member.multi_label for member in members_of(task)]
        self.answers = [
            answers[: member.candidates] for member, answers in zip(members_of(task), answer_ranges(task), strict=True)
        ]
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
    ) -> dict[str, dict[str, Tensor]]:
        """Say what the candidates of a batch mean.

        Args:
            chosen: the candidates of each sample, K at most.
            indices: the samples.
            truths: their own answers.

        Returns:
            `single`, for the samples with one label an image, if there are any: `rows (B,)` bool, which they are,
            `targets (B,)`, the place of the true answer among the candidates, and the TSM's scores of the candidates
            `teacher (B, K)`. `several`, for those with any number: `rows`, `membership (B, K, labels)` bool, the labels
            of each candidate, `targets (B, labels)` multi-hot, and `teacher (B, labels)`, log-odds. Both hold
            `valid (B, K)` bool, false where a sample has fewer candidates. Without a TSM there is no `teacher`.
        """
        most = max(map(len, chosen))
        table = torch.stack([pad(torch.tensor(row), (0, most - len(row)), value=-1) for row in chosen])
        several = torch.tensor([self.several[self.member_of[truth]] for truth in truths])
        members = self.membership[table] & (table >= 0).unsqueeze(-1)
        scores = self._scores(members, indices)
        described = {}
        if not several.all():
            targets = (table == torch.tensor(truths)[:, None]).int().argmax(-1)
            described["single"] = {"rows": ~several, "targets": targets, **_named("teacher", scores)}
        if several.any():
            odds = None if scores is None else label_log_odds(scores.masked_fill(table < 0, -torch.inf), members)
            targets = self.membership[torch.tensor(truths)].float()
            described["several"] = {
                "rows": several,
                "membership": members,
                "targets": targets,
                **_named("teacher", odds),
            }
        return {kind: {"valid": table >= 0, **each} for kind, each in described.items()}

    @staticmethod
    def columns(chosen: Sequence[Sequence[int]], truths: Sequence[int]) -> dict[str, Tensor]:
        """Say which candidates of a batch are the same answer, so that its images can be compared by answer.

        Args:
            chosen: the candidates of each sample, K at most, its own answer among them.
            truths: their own answers.

        Returns:
            With a column for each of the batch's candidates: `places (B, K)`, the columns of a sample's candidates, on
            padding one behind the last; `scored (B, columns)` bool, which it has; `targets (B,)`, that of its answer.
        """
        answers = sorted({answer for row in chosen for answer in row})
        column = {answer: place for place, answer in enumerate(answers)}
        most, own = max(map(len, chosen)), [[column[answer] for answer in row] for row in chosen]
        scored = torch.zeros(len(chosen), len(answers), dtype=torch.bool)
        for row, places in enumerate(own):
            scored[row, places] = True
        return {
            "places": torch.tensor([[*places, *[len(answers)] * (most - len(places))] for places in own]),
            "scored": scored,
            "targets": torch.tensor([column[truth] for truth in truths]),
        }

    def _scores(self, members: Tensor, indices: Sequence[int]) -> Tensor | None:
        """The TSM's score of each candidate, `(B, K)`: the sum of its labels' logits.

        Normalised over the candidates these are a softmax head's probabilities of single labels, and those of the
        candidate sets when the labels of a sigmoid head are independent.
        """
        if self.teacher_logits is None:
            return None
        logits = torch.stack([self.teacher_logits[index] for index in indices])
        return (members.to(logits) @ logits.unsqueeze(-1)).squeeze(-1)

    def _likeliest(self, index: int, possible: range) -> list[int]:
        """The answers of a data set, the one that the TSM finds likeliest first."""
        if self.teacher_logits is None:
            return []
        logits = self.teacher_logits[index]
        scores = self.membership[possible.start : possible.stop].to(logits) @ logits
        return [possible[place] for place in scores.argsort(descending=True).tolist()]


def _named(name: str, value: Tensor | None) -> dict[str, Tensor]:
    return {} if value is None else {name: value}
