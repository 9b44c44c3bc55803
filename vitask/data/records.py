"""From labelled rows to a task: what every source of rows (tables, folders, hub sets) ends in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitask.data.assignment import Rows, assign_splits
from vitask.data.audit import audit
from vitask.data.conversion import Converted, convert
from vitask.data.images import ImageSource
from vitask.data.labels import Label, LabelFile, canonical_order, name_labels
from vitask.data.options import DataOptions
from vitask.data.splits import ALL_IN_TEST
from vitask.data.task import SPLITS, TaskData, make_task
from vitask.errors import VitaskError, did_you_mean


@dataclass(frozen=True)
class Records:
    """Labelled rows, before an image is read.

    Attributes:
        origin: Where they come from; errors begin with it.
        places: Where each row stands, e.g. ``"labels.csv, line 7"``.
        ids: A name for each row, all different.
        images: The image of each row.
        labels: The label names of each row, as the data has them; exactly one unless ``multi_label``.
        multi_label: Whether a row may have any number of labels.
        splits: The source's name of each row's split; None when it has none.
        groups: What must stay in one split, a patient, say; None when nothing must.
        groups_bind_splits: Whether the source's own splits have to keep groups together, too.
    """

    origin: str
    places: Sequence[str]
    ids: Sequence[str]
    images: ImageSource
    labels: Sequence[Sequence[str]]
    multi_label: bool = False
    splits: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    groups_bind_splits: bool = True


def records_task(
    name: str,
    modality: str,
    records: Records,
    options: DataOptions,
    *,
    known: Sequence[str] | None = None,
    shipped: Mapping[str, Label] | None = None,
    ordinal: bool = False,
    what: str = "label",
    notes: Mapping[str, str] | None = None,
) -> TaskData:
    """Check rows, split them, convert their images once, and build the task.

    Args:
        name: Short name of the task.
        modality: What the images are, unless the label file says it.
        records: The rows.
        options: The user's choices.
        known: All label names in canonical order, where the source fixes them; else those that occur.
        shipped: Texts, synonyms and definitions that this package has for the labels.
        ordinal: Whether the labels are ordered grades.
        what: What a label name is, for errors.
        notes: Conditions to print beside results.

    Raises:
        UsageError: A choice does not fit the data.
        VitaskError: A row has no label or an unknown one, ids occur twice, a split is unknown or empty, a group is in
            two splits, an image is missing or does not decode, and whatever `make_task` raises.
    """
    if not len(records.ids):
        raise VitaskError(f"{records.origin}: has no rows")
    check_unique(records.ids, records.places)
    file = options.labels()
    names = list(known) if known is not None else _names(records, file, options)
    targets = _targets(records, names)
    parts, split_notes = assign_splits(records, targets, names, options)
    labels = name_labels(
        names, own=options.label_texts, file=file, shipped=shipped, raw=options.raw_labels, what=what,
        origin=name,
    )  # fmt: skip
    converted = convert(
        records.images,
        records.ids,
        cache_dir=options.cache_dir,
        name=name,
        size=options.size,
        skip_corrupt=options.skip_corrupt,
    )
    rows = _surviving(parts, converted)
    chosen = {split: [targets[converted.rows[row]] for row in rows[split]] for split in SPLITS}
    pixels = {split: converted.pixels[rows[split]] for split in SPLITS}
    return make_task(
        name,
        file.modality or modality,
        labels,
        dict.fromkeys(SPLITS, converted.dataset),
        chosen,
        rows=rows,
        content=converted.content,
        origin=records.origin,
        multi_label=records.multi_label,
        separator=options.separator,
        no_finding=options.no_finding,
        ordinal=next(flag for flag in (options.ordinal, file.ordinal, ordinal) if flag is not None),
        audit=audit(pixels, chosen, converted.sizes, len(converted.skipped)),
        allow_missing=options.allow_missing,
        allow_empty=tuple(options.fractions) == ALL_IN_TEST,
        notes={**(notes or {}), **split_notes},
    )


def join_records(origin: str, several: Sequence[Records]) -> Records:
    """Put the rows of several tables with files behind each other; all or none of them have splits and groups."""
    from vitask.data.images import FileImages

    def joined(key: str):
        return [value for each in several for value in getattr(each, key)]

    paths = [path for each in several for path in each.images.paths]  # type: ignore[attr-defined]
    optional = {key: joined(key) if getattr(several[0], key) is not None else None for key in ("splits", "groups")}
    images = FileImages(paths, joined("places"))
    same = {"ids": joined("ids"), "labels": joined("labels"), "places": joined("places"), **optional}
    return replace(several[0], origin=origin, images=images, **same)


def check_unique(ids: Sequence[str], places: Sequence[str]) -> None:
    """Raise a `VitaskError` that names both places of an id that occurs twice."""
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        other = first.setdefault(name, row)
        if other != row:
            raise VitaskError(f"{places[row]}: the id '{name}' occurs before, in {places[other]}; ids must be unique")


def _names(records: Records, file: LabelFile, options: DataOptions) -> list[str]:
    """The label names that occur, and with ``allow_missing`` those that only the label file has."""
    found = {name for row in records.labels for name in row}
    return canonical_order(sorted(found | set(file.labels)) if options.allow_missing else sorted(found), file)


def _targets(records: Records, names: Sequence[str]) -> list[tuple[int, ...]]:
    index = {name: i for i, name in enumerate(names)}
    same: dict[tuple[int, ...], tuple[int, ...]] = {}  # equal label sets share one tuple
    targets = []
    for row, found in enumerate(records.labels):
        if not found and not records.multi_label:
            raise VitaskError(f"{records.places[row]}: has no label")
        for name in found:
            if name not in index:
                raise VitaskError(
                    f"{records.places[row]}: label '{name}' is none of {', '.join(names)}.{did_you_mean(name, names)}"
                )
        target = tuple(sorted({index[name] for name in found}))
        targets.append(same.setdefault(target, target))
    return targets


def _surviving(parts: Rows, converted: Converted) -> Rows:
    """Turn rows of the source into rows of the converted images, without those that were skipped."""
    position = np.full(max(map(max, filter(None, parts.values()))) + 1, -1)
    kept = converted.rows < len(position)
    position[converted.rows[kept]] = np.flatnonzero(kept)
    places = {split: position[np.array(rows, dtype=int)] for split, rows in parts.items()}
    return {split: found[found >= 0].tolist() for split, found in places.items()}
