"""Negatives for contrastive response tuning (CRT): an image with the same instruction and a different answer.

Both ways to draw are uniform over their candidates, and each draw is a pure function of (seed, epoch, sample index):
a resumed run and every rank agree on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitask.data.negative_rule import NegativeRule

NO_NEGATIVE = -1
TRIES = 16


class BatchNegatives:
    """Draws each sample's negative among the rows of its own batch; several samples may share one.

    Args:
        seed: Seed of the draws.
        group: Draw among so many rows in a row instead of the whole batch, the last group being what is left.
        label_sets: Give the label set of each answer (``[a.labels for a in task.answers]``) to require that a negative
            shares no label with the sample; without it, a different answer is enough.
        rule: Of an open-ended task, what tells which training samples may stand for each other's negative.

    Example:
        >>> BatchNegatives(seed=0).draw(0, indices=[10, 11, 12], answers=[1, 1, 2], instruction_ids=[0, 0, 0])
        [2, 2, 1]
    """

    def __init__(
        self,
        seed: int,
        label_sets: Sequence[Sequence[int]] | None = None,
        group: int | None = None,
        rule: NegativeRule | None = None,
    ) -> None:
        self.seed = seed
        self.group = group
        self.rule = rule
        self._compatible = _Compatible(label_sets)

    def draw(
        self, epoch: int, indices: Sequence[int], answers: Sequence[int], instruction_ids: Sequence[int]
    ) -> list[int]:
        """Return for each row of the batch the row of its negative, or -1 when the batch holds no candidate.

        Args:
            epoch: The epoch, for a fresh draw in each.
            indices: The samples' indices in the training set, shape ``(B,)``.
            answers: Their answers, shape ``(B,)``.
            instruction_ids: Equal numbers mean the same instruction, shape ``(B,)``.
        """
        answers, instruction_ids = np.asarray(answers), np.asarray(instruction_ids)
        groups = np.arange(len(answers)) // (self.group or len(answers))
        negatives = []
        for row, index in enumerate(indices):
            different = self.rule(index, indices) if self.rule else self._compatible(answers[row], answers)
            fits = (instruction_ids == instruction_ids[row]) & (groups == groups[row]) & different
            rows = np.flatnonzero(fits)
            pick = _rng(self.seed, epoch, index).integers(len(rows)) if len(rows) else None
            negatives.append(NO_NEGATIVE if pick is None else int(rows[pick]))
        return negatives


class DatasetNegatives:
    """Draws each sample's negative among the whole training set, as the paper states it.

    Args:
        answers: The answer of every training sample, shape ``(N,)``.
        instruction_ids: Its instruction, shape ``(N,)``.
        seed: Seed of the draws.
        label_sets: As in `BatchNegatives`.

    Example:
        >>> DatasetNegatives([0, 0, 1, 1], [0, 0, 0, 0], seed=0).draw(0, [1], [0], [0])
        [3]
    """

    def __init__(
        self,
        answers: Sequence[int],
        instruction_ids: Sequence[int],
        seed: int,
        label_sets: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.seed = seed
        self._compatible = _Compatible(label_sets)
        pairs = np.stack([np.asarray(instruction_ids), np.asarray(answers)], axis=1)
        groups, member, self._counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        self._instructions, self._answers = groups.T
        self._samples = np.argsort(member.reshape(-1), kind="stable")  # sorted by group: each group is one slice
        self._starts = np.cumsum(self._counts) - self._counts

    def draw(
        self, epoch: int, indices: Sequence[int], answers: Sequence[int], instruction_ids: Sequence[int]
    ) -> list[int]:
        """Return for each row the training index of its negative, or -1 when the set holds no candidate.

        Args are those of `BatchNegatives.draw`.
        """
        return [
            self._draw_one(_rng(self.seed, epoch, index), answer, instruction)
            for index, answer, instruction in zip(indices, answers, instruction_ids, strict=True)
        ]

    def _draw_one(self, rng: np.random.Generator, answer: int, instruction: int) -> int:
        fits = (self._instructions == instruction) & self._compatible(answer, self._answers)
        ends = np.cumsum(self._counts[fits])
        if not len(ends):
            return NO_NEGATIVE
        place = rng.integers(ends[-1])  # uniform over samples; now find its group, then its place in the group's slice
        group = np.searchsorted(ends, place, side="right")
        back = ends[group] - place
        return int(self._samples[self._starts[fits][group] + self._counts[fits][group] - back])


class InstructionNegatives:
    """Draws each sample's negative among all training samples of an open-ended task with the same instruction.

    Args:
        rule: Which of them may be one.
        instruction_ids: The instruction of every training sample, shape ``(N,)``.
        seed: Seed of the draws.

    Example:
        >>> rule = NegativeRule(["red", "Red.", "blue"], pictures=["0.png", "1.png", "2.png"])
        >>> InstructionNegatives(rule, [0, 0, 0], seed=0).draw(0, [0], [0], [0])
        [2]
    """

    def __init__(self, rule: NegativeRule, instruction_ids: Sequence[int], seed: int) -> None:
        self.rule = rule
        self.seed = seed
        ids = np.asarray(instruction_ids)
        order = np.argsort(ids, kind="stable")
        known, starts = np.unique(ids[order], return_index=True)
        self._rows = dict(zip(known.tolist(), np.split(order, starts[1:]), strict=True))

    def draw(
        self, epoch: int, indices: Sequence[int], answers: Sequence[int], instruction_ids: Sequence[int]
    ) -> list[int]:
        """Return for each row the training index of its negative, or -1 when the set holds no candidate.

        Args are those of `BatchNegatives.draw`; what is different follows from the samples, not from ``answers``.
        """
        return [
            self._draw_one(_rng(self.seed, epoch, index), int(index), self._rows[instruction])
            for index, instruction in zip(indices, instruction_ids, strict=True)
        ]

    def _draw_one(self, rng: np.random.Generator, index: int, rows: NDArray[np.integer]) -> int:
        """Try a few at random before looking at all; either way every candidate is equally likely."""
        tried = rows[rng.integers(len(rows), size=TRIES)]
        fitting = tried[self.rule(index, tried)]
        if not len(fitting):
            fitting = rng.permutation(rows[self.rule(index, rows)])
        return int(fitting[0]) if len(fitting) else NO_NEGATIVE


class _Compatible:
    """Tells which answers may serve as negative for an answer."""

    def __init__(self, label_sets: Sequence[Sequence[int]] | None) -> None:
        self._has_label: NDArray[np.bool_] | None = None
        if label_sets is not None:
            width = 1 + max((label for labels in label_sets for label in labels), default=0)
            self._has_label = np.zeros((len(label_sets), width), dtype=bool)
            for answer, labels in enumerate(label_sets):
                self._has_label[answer, list(labels)] = True

    def __call__(self, answer: int, others: NDArray[np.integer]) -> NDArray[np.bool_]:
        different = others != answer
        if self._has_label is None:
            return different
        return different & ~(self._has_label[others] & self._has_label[answer]).any(axis=1)


def _rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, int(index)])
