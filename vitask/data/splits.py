"""Stratified and group-aware splits that depend on the data and a fixed split seed, never on a run's seed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vitask.data.task import SPLITS
from vitask.errors import UsageError, VitaskError, did_you_mean

ALL_IN_TEST = (0, 0, 1)
ALIASES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
FOLDS = 20
TRIES = 20


def stratified_split(
    classes: Sequence[int], fractions: Sequence[float], *, names: Sequence[str], seed: int = 0, strict: bool = True
) -> dict[str, list[int]]:
    """Split rows into train, val and test so that each class is divided by the same fractions.

    Val and test get ``round(fraction * n)`` rows of each class, at least one; train gets the rest.

    Args:
        classes: The class of each row, shape ``(N,)``.
        fractions: Of train, val and test; positive, summing to 1.
        names: Class names, for errors.
        seed: Seed of the split.
        strict: Refuse a class that is too small to divide, instead of giving it to train.

    Returns:
        Ascending row indices by split name; disjoint, and together all rows.

    Raises:
        UsageError: The fractions are not three positive numbers that sum to 1.
        VitaskError: A class has too few rows to give one to each split.

    Example:
        >>> {k: len(v) for k, v in stratified_split([0] * 10 + [1] * 5, (0.6, 0.2, 0.2), names=["a", "b"]).items()}
        {'train': 9, 'val': 3, 'test': 3}
    """
    check_fractions(fractions)
    parts = _stratified(np.asarray(classes), fractions[1:], names, np.random.default_rng(seed), strict)
    return dict(zip(SPLITS, parts, strict=True))


def grouped_split(
    classes: Sequence[int], groups: Sequence[str], fractions: Sequence[float], *, seed: int = 0
) -> dict[str, list[int]]:
    """Split rows so that no group is in two splits, and classes are divided as evenly as that allows.

    Several draws are tried until every class is in every split; the last one stands if none does it.

    Args:
        classes: The class of each row, shape ``(N,)``.
        groups: The group of each row, a patient, say, shape ``(N,)``.
        fractions: As in `stratified_split`.
        seed: Seed of the split.

    Raises:
        UsageError: The fractions are not three positive numbers that sum to 1.
        VitaskError: There are too few groups, or the groups leave a split empty.
    """
    check_fractions(fractions)
    _, val, test = fractions
    rows, classes, members = np.arange(len(classes)), np.asarray(classes), np.unique(groups, return_inverse=True)[1]
    if members.max() + 1 < len(SPLITS):
        raise VitaskError(f"{members.max() + 1} groups cannot fill three splits without dividing one; use other groups")
    wanted, parts = set(classes.tolist()), {}
    for attempt in range(TRIES):
        rest, tested = take_groups(rows, classes, members, test, seed * TRIES + attempt)
        trained, validated = take_groups(rest, classes, members, val / (1 - test), seed * TRIES + attempt)
        parts = dict(zip(SPLITS, (trained, validated, tested), strict=True))
        if all(set(classes[part].tolist()) == wanted for part in parts.values()):
            break
    for split, part in parts.items():
        if not len(part):
            raise VitaskError(f"the groups leave split '{split}' empty; change data.fractions, or use smaller groups")
    return {split: part.tolist() for split, part in parts.items()}


def carve_val(
    rows: Sequence[int],
    classes: Sequence[int],
    fractions: Sequence[float],
    *,
    names: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    strict: bool = True,
) -> tuple[list[int], list[int]]:
    """Take a validation split out of the training rows, where a source has none; returns train and val.

    Val's share of them is ``val / (train + val)`` of the fractions. Arguments and errors are those of the splits above.
    """
    rows, classes = np.asarray(rows), np.asarray(classes)
    share = fractions[1] / (fractions[0] + fractions[1]) if fractions[0] > 0 and fractions[1] > 0 else 0.1
    if groups is None:
        parts = _stratified(classes[rows], [share], names, np.random.default_rng(seed), strict)
        return rows[parts[0]].tolist(), rows[parts[1]].tolist()
    members = np.unique(groups, return_inverse=True)[1]
    train, val = take_groups(rows, classes, members, share, seed)
    if not len(train) or not len(val):
        raise VitaskError("the groups leave split 'val' or 'train' empty; use smaller groups")
    return train.tolist(), val.tolist()


def take_groups(
    rows: NDArray[np.integer], classes: NDArray[np.integer], members: NDArray[np.integer], share: float, seed: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Divide rows into what is left and about ``share`` of them, by whole groups: some folds of scikit-learn's."""
    from sklearn.model_selection import StratifiedGroupKFold

    part = Fraction(share).limit_denominator(FOLDS)
    most = min(len(np.unique(members[rows])), int(np.bincount(classes[rows] - classes[rows].min()).max()))
    folds = min(part.denominator, most)
    if folds < 2:
        return rows, rows[:0]
    count = min(folds - 1, max(1, round(share * folds)))
    # Random order by hand: with shuffle=True some versions of scikit-learn lose the stratification.
    shuffled = np.random.default_rng(seed).permutation(members.max() + 1)[members[rows]]
    splitter = StratifiedGroupKFold(folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class smaller than the number of folds
        found = [fold for _, fold in splitter.split(rows, classes[rows], shuffled)]
    taken = np.sort(np.concatenate(found[:count]))
    return np.delete(rows, taken), rows[taken]


def split_of(name: str, own: Mapping[str, str | Sequence[str]]) -> str | None:
    """Return ``train``, ``val`` or ``test`` for a source's name of a split; None when it is none of the known ones.

    Example:
        >>> split_of("Validation", {}), split_of("fold3", {"test": "fold3"})
        ('val', 'test')
    """
    for split, names in own.items():
        if name in ([str(names)] if isinstance(names, str | int) else [str(each) for each in names]):
            return split
    return next((split for split in SPLITS if split not in own and name.casefold() in ALIASES[split]), None)


def check_split_names(own: Mapping[str, str | Sequence[str]]) -> None:
    """Raise a `UsageError` for a key that is no split."""
    for key in own:
        if key not in SPLITS:
            raise UsageError(f"data.splits.{key}: splits are {', '.join(SPLITS)}.{did_you_mean(key, SPLITS)}")


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise a `UsageError` unless there are three positive fractions that sum to 1."""
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(f"fractions of train, val, test must be positive and sum to 1, got {list(fractions)}")


def _stratified(
    classes: NDArray[np.integer],
    shares: Sequence[float],
    names: Sequence[str],
    rng: np.random.Generator,
    strict: bool,
) -> list[list[int]]:
    """Divide the rows of each class: the parts behind the first get these shares, the first gets the rest."""
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for k, name in enumerate(names):
        rows = rng.permutation(np.flatnonzero(classes == k))
        counts = [max(1, round(share * len(rows))) for share in shares]
        if len(rows) <= sum(counts):
            if strict:
                which = "a train, a val and a test split" if len(shares) == 2 else "a train and a val split"
                raise VitaskError(f"class '{name}' has {len(rows)} images: too few for {which}")
            parts[0] += rows.tolist()
            continue
        bounds = np.cumsum([len(rows) - sum(counts), *counts[:-1]])
        for part, found in zip(parts, np.split(rows, bounds), strict=True):
            part += found.tolist()
    return [sorted(part) for part in parts]
