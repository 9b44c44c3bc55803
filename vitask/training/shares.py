"""Which samples an epoch holds: shares of data sets and classes, and steps that keep data sets apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shares:
    """Draws the samples of an epoch, a pure function of seed and epoch; an epoch is as long as the training split.

    A data set of n images gets a share of it in proportion to `n ** set_power`, a class of n images a share of its
    data set in proportion to `n ** class_power`. A class whose share is larger than it comes again, each of its images
    as often as every other to within one; with both powers at 1 every sample comes exactly once.

    Attributes:
        sets: the data set of each sample.
        classes: the class of each sample; no class belongs to two sets.
        set_power: 1 for shares as large as the sets are, 0 for equal ones, 0.5 for the square root.
        class_power: likewise for the classes of a set.
        one_set_a_step: never mix data sets in an optimiser step; the last step of each set may be smaller.

    Example:
        >>> shares = Shares([0, 0, 0, 0], [0, 0, 0, 1], class_power=0.0)
        >>> sorted(shares.steps(4, seed=0, epoch=0)[0]).count(3)
        2
    """

    sets: Sequence[int]
    classes: Sequence[int]
    set_power: float = 1.0
    class_power: float = 1.0
    one_set_a_step: bool = False

    def steps(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        """Return the samples of each optimiser step of an epoch, over all ranks."""
        rng = np.random.default_rng([seed, epoch])
        classes, counts = np.unique(self.classes, return_counts=True)
        quotas = self._quotas(classes, counts)
        if (quotas == counts).all():
            order = rng.permutation(len(self.classes))
        else:
            drawn = [
                _draw(rng, np.flatnonzero(np.asarray(self.classes) == c), q)
                for c, q in zip(classes, quotas, strict=True)
            ]
            order = rng.permutation(np.concatenate(drawn))
        if not self.one_set_a_step:
            return _cut(order, batch_size)
        of_set = np.asarray(self.sets)[order]
        steps = [step for number in np.unique(of_set) for step in _cut(order[of_set == number], batch_size)]
        return [steps[place] for place in rng.permutation(len(steps))]

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return how many optimiser steps an epoch has."""
        if not self.one_set_a_step:
            return math.ceil(len(self.classes) / batch_size)
        classes, counts = np.unique(self.classes, return_counts=True)
        quotas, of_class = self._quotas(classes, counts), self._set_of(classes)
        return sum(math.ceil(quotas[of_class == number].sum() / batch_size) for number in np.unique(of_class))

    def _quotas(self, classes: NDArray, counts: NDArray) -> NDArray:
        """How many samples each class has in an epoch: integers that add up to the training split."""
        if self.set_power == self.class_power == 1:
            return counts
        of_class = self._set_of(classes)
        sizes = np.array([counts[of_class == number].sum() for number in of_class], dtype=float)
        within = counts**self.class_power / [(counts[of_class == n] ** self.class_power).sum() for n in of_class]
        wanted = sizes**self.set_power * within
        wanted *= counts.sum() / wanted.sum()
        quotas = np.floor(wanted).astype(int)
        largest = np.argsort(quotas - wanted, kind="stable")[: counts.sum() - quotas.sum()]
        quotas[largest] += 1
        return quotas

    def _set_of(self, classes: NDArray) -> NDArray:
        first = np.unique(self.classes, return_index=True)[1]
        return np.asarray(self.sets)[first] if len(classes) else classes


def _draw(rng: np.random.Generator, members: NDArray, count: int) -> NDArray:
    rounds = [rng.permutation(members) for _ in range(math.ceil(count / len(members)))]
    return np.concatenate([*rounds, members[:0]])[:count]


def _cut(order: NDArray, batch_size: int) -> list[list[int]]:
    return [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
