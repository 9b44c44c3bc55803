"""Stratified splits that depend on the data and a fixed split seed, never on a run's seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitask.data.task import SPLITS
from vitask.errors import UsageError, VitaskError


def stratified_split(
    classes: Sequence[int], fractions: Sequence[float], *, names: Sequence[str], seed: int = 0
) -> dict[str, list[int]]:
    """Split rows into train, val and test so that each class is divided by the same fractions.

    Val and test get ``round(fraction * n)`` rows of each class, at least one; train gets the rest.

    Args:
        classes: The class of each row, shape ``(N,)``.
        fractions: Of train, val and test; positive, summing to 1.
        names: Class names, for errors.
        seed: Seed of the split.

    Returns:
        Ascending row indices by split name; disjoint, and together all rows.

    Raises:
        UsageError: The fractions are not three positive numbers that sum to 1.
        VitaskError: A class has too few rows to give one to each split.

    Example:
        >>> {k: len(v) for k, v in stratified_split([0] * 10 + [1] * 5, (0.6, 0.2, 0.2), names=["a", "b"]).items()}
        {'train': 9, 'val': 3, 'test': 3}
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(f"fractions of train, val, test must be positive and sum to 1, got {list(fractions)}")
    rng = np.random.default_rng(seed)
    classes = np.asarray(classes)
    parts: dict[str, list[int]] = {split: [] for split in SPLITS}
    for k, name in enumerate(names):
        rows = rng.permutation(np.flatnonzero(classes == k))
        val, test = (max(1, round(fraction * len(rows))) for fraction in fractions[1:])
        if len(rows) <= val + test:
            raise VitaskError(f"class '{name}' has {len(rows)} images: too few for a train, a val and a test split")
        bounds = [len(rows) - val - test, len(rows) - test]
        for split, part in zip(SPLITS, np.split(rows, bounds), strict=True):
            parts[split] += part.tolist()
    return {split: sorted(rows) for split, rows in parts.items()}
