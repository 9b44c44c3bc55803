"""Which row goes into which split: the source's own splits, checked, or splits made here where it has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitask.data.options import DataOptions
from vitask.data.splits import (
    ALIASES,
    ALL_IN_TEST,
    carve_val,
    check_split_names,
    grouped_split,
    split_of,
    stratified_split,
)
from vitask.data.task import SPLITS
from vitask.errors import UsageError, VitaskError, did_you_mean

if TYPE_CHECKING:
    from vitask.data.records import Records

Rows = dict[str, list[int]]


def assign_splits(
    records: Records, targets: Sequence[Sequence[int]], names: Sequence[str], options: DataOptions
) -> tuple[Rows, dict[str, str]]:
    """Return the rows of each split, and a note when a split was made here.

    Args:
        records: The rows, with or without splits of their own.
        targets: The label indices of each row.
        names: The labels' names, for errors.
        options: Fractions, seed and names of the splits.

    Raises:
        UsageError: The fractions or the names of the splits are wrong.
        VitaskError: A split is unknown or empty, a group is in two splits, or a class is too small to divide.
    """
    check_split_names(options.split_names)
    if tuple(options.fractions) == ALL_IN_TEST:
        return {"train": [], "val": [], "test": list(range(len(targets)))}, {"split": "all images are in test"}
    parts = _given(records, options) if records.splits is not None else None
    if parts and parts["val"]:
        return parts, {}
    classes = _classes(targets, len(names)) if records.multi_label else [row[0] for row in targets]
    names = [*names, options.no_finding] if records.multi_label else names
    strict = not (records.multi_label or options.allow_missing)
    shared = {"names": names, "seed": options.split_seed, "strict": strict}
    try:
        if parts:
            train, val = carve_val(parts["train"], classes, options.fractions, groups=records.groups, **shared)
            parts |= {"train": train, "val": val}
            what = f"val is {len(val)} of {len(train) + len(val)} training images, taken out here"
        else:
            what = f"made here, {'/'.join(f'{100 * share:g}' for share in options.fractions)} % for train/val/test"
            parts = (
                stratified_split(classes, options.fractions, **shared)
                if records.groups is None
                else grouped_split(classes, records.groups, options.fractions, seed=options.split_seed)
            )
    except UsageError:
        raise
    except VitaskError as error:
        raise VitaskError(f"{records.origin}: {error}") from error
    how = "stratified" if records.groups is None else "groups kept together"
    return parts, {"split": f"{what}, {how}, seed {options.split_seed}"}


def _given(records: Records, options: DataOptions) -> Rows:
    """Read the source's own splits, and check that no group is in two of them."""
    parts: Rows = {split: [] for split in SPLITS}
    known = {name: split_of(name, options.split_names) for name in set(records.splits)}
    for row, name in enumerate(records.splits):
        split = known[name]
        if split is None and options.split_names:
            continue  # the user said which ones to use
        if split is None:
            near = did_you_mean(name, [alias for known in ALIASES.values() for alias in known])
            raise VitaskError(
                f"{records.places[row]}: unknown split '{name}'.{near} "
                "Say which splits to use with data.splits={train: ..., val: ..., test: ...}"
            )
        parts[split].append(row)
    for split in ("train", "test"):
        if not parts[split]:
            wanted = options.split_names.get(split)
            named = f" ('{wanted}')" if wanted else ""
            there = sorted(set(records.splits))
            near = did_you_mean(str(wanted), there) if wanted else ""
            raise VitaskError(
                f"{records.origin}: split '{split}'{named} has no rows.{near} The data's splits are "
                f"{', '.join(there)}; data.splits says which to use"
            )
    if records.groups is not None and records.groups_bind_splits:
        _check_groups(records, parts)
    return parts


def _check_groups(records: Records, parts: Rows) -> None:
    seen: dict[str, set[str]] = {}
    for split, rows in parts.items():
        for row in rows:
            seen.setdefault(records.groups[row], set()).add(split)
    broken = [group for group, splits in seen.items() if len(splits) > 1]
    if broken:
        where = " and ".join(sorted(seen[broken[0]]))
        raise VitaskError(
            f"{records.origin}: group '{broken[0]}' is in {where} ({len(broken)} of {len(seen)} groups are in several "
            "splits); mend the split column, leave it out to be split by group here, or leave the groups out"
        )


def _classes(targets: Sequence[Sequence[int]], count: int) -> list[int]:
    """Give a row with several labels its rarest one as class, and a row without labels a class of its own."""
    frequency = Counter(label for row in targets for label in row)
    return [min(row, key=lambda label: (frequency[label], label)) if row else count for row in targets]
