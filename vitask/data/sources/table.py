"""Your own table: CSV, TSV, JSON lines, Parquet or Excel, with an image and a label, or several, a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitask.data.images import FileImages, ImageSource
from vitask.data.options import DataOptions
from vitask.data.records import Records, records_task
from vitask.data.sources.table_files import ParquetImages, Table, read_table
from vitask.data.task import TaskData
from vitask.errors import UsageError, VitaskError, did_you_mean

USUAL = {
    "image": ("image", "image_path", "path", "file", "file_name", "filename", "img"),
    "label": ("label", "labels", "class", "target", "diagnosis"),
    "split": ("split",),
    "group": ("group",),
    "id": ("id",),
    "instruction": ("instruction", "question", "prompt"),
    "response": ("response", "answer", "caption"),
}
REQUIRED = ("image", "label", "instruction", "response")
OF_LABELS = ("image", "label", "split", "group", "id")


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None finds it by its usual names, "" leaves it out.

    Attributes:
        image: Path of the image, or the encoded image itself (Parquet).
        label: One label, a list of labels, or several in one text, see ``label_separator``.
        split: Train, val or test.
        group: What must stay in one split, e.g. the patient.
        id: A name for the row; by default the image's path as written, or the number of the row.
        label_separator: Splits one text into several labels, e.g. ``"|"``; makes the task multi-label.
        instruction: Of open-ended rows, what is asked.
        response: Of open-ended rows, the right answer in words.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    id: str | None = None
    label_separator: str | None = None
    instruction: str | None = None
    response: str | None = None


def load_table_task(
    path: str | Path,
    modality: str = "input",
    *,
    name: str | None = None,
    root: str | Path | None = None,
    columns: Columns | None = None,
    **options: Any,
) -> TaskData:
    """Load a table of images and labels. Every image is read once, checked, and converted to Arrow.

    Args:
        path: The table: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``; ``.xls`` and ``.xlsx`` with the extra ``excel``.
        modality: What the images are, e.g. ``"chest X-ray"``.
        name: Short name of the task; by default the file's.
        root: What image paths are relative to; by default the table's folder.
        columns: Which column holds what.
        options: Choices as in `DataOptions`.

    Raises:
        UsageError: The kind of table is unknown, or a column that was asked for is missing.
        VitaskError: The table or an image is missing or damaged, and what `records_task` raises.

    Example:
        >>> load_table_task("labels.csv", "leaf", columns=Columns(group="tree")).labels
        ('healthy', 'leaf rust')
    """
    table = read_table(path)
    root = Path(root).expanduser() if root is not None else table.path.parent
    choices = DataOptions(**options)
    records = table_records(table, columns or Columns(), root, no_finding=choices.no_finding)
    return records_task(name or table.path.stem, modality, records, choices)


def table_records(
    table: Table,
    columns: Columns,
    root: Path,
    *,
    find: Callable[[str], Path] | None = None,
    images: Callable[[str], ImageSource] | None = None,
    no_finding: str = "no finding",
) -> Records:
    """Turn a table into labelled rows.

    Args:
        table: The table.
        columns: Which column holds what.
        root: What image paths are relative to.
        find: Turns a cell of the image column into a file, where it is not a path below ``root``.
        images: Makes a source of the column's images, where they are in no file that this package reads.
        no_finding: A label of this name means "no label", in multi-label tables.

    Raises:
        UsageError: A column that was asked for, or one for images or labels, is missing.
        VitaskError: A cell of the image, label or split column is empty.
    """
    found = {role: find_column(table, role, getattr(columns, role)) for role in OF_LABELS}
    source = images(found["image"]) if images else column_images(table, found["image"], root, find)
    cells = table.columns[found["label"]]
    multi_label = columns.label_separator is not None or any(isinstance(cell, list) for cell in cells)
    names = (table.class_names or {}).get(found["label"])
    labels = [_labels(cell, columns.label_separator, names, table.places[row]) for row, cell in enumerate(cells)]
    if multi_label:
        labels = [[name for name in row if name.casefold() != no_finding.casefold()] for row in labels]
    return Records(
        origin=str(table.path),
        places=table.places,
        ids=_ids(table, found["id"], found["image"]),
        images=source,
        labels=labels,
        multi_label=multi_label,
        splits=_texts(table, found["split"]),
        groups=_texts(table, found["group"]),
    )


def find_column(table: Table, role: str, asked: str | None) -> str | None:
    """Return the column for a role: the one that was asked for, else one of the usual names, else None if it may lack.

    Raises:
        UsageError: It is not there.
    """
    there = [*table.columns, *table.image_columns]
    if asked:
        if asked not in there:
            raise UsageError(
                f"{table.path}: has no column '{asked}' (data.columns.{role}).{did_you_mean(asked, there)} "
                f"There are {', '.join(there)}"
            )
        return asked
    usual = [name for name in USUAL[role] if name in there] if asked is None else []
    if usual:
        return usual[0]
    if role in REQUIRED:
        near = next((text for name in USUAL[role] if (text := did_you_mean(name, there))), "")
        raise UsageError(
            f"{table.path}: has no column '{USUAL[role][0]}'.{near} Name the one that holds it with "
            f"data.columns.{role}=...; there are {', '.join(there)}"
        )
    return None


def column_images(table: Table, column: str, root: Path, find: Callable[[str], Path] | None = None) -> ImageSource:
    """Return the images of a column: encoded in its cells (Parquet), or files below ``root``.

    Raises:
        VitaskError: A cell is empty.
    """
    if column in table.image_columns and column not in table.columns:
        return ParquetImages(table, column, root)
    paths = [_text(cell) for cell in table.columns[column]]
    for row, path in enumerate(paths):
        if not path:
            raise VitaskError(f"{table.places[row]}: has no image in column '{column}'")
    return FileImages([find(path) if find else root / Path(path).expanduser() for path in paths], table.places)


def _labels(cell: Any, separator: str | None, names: Sequence[str] | None, place: str) -> list[str]:
    """Return the label names of a cell."""
    if isinstance(cell, list):
        parts = cell
    else:
        text = _text(cell)
        parts = text.split(separator) if separator else [cell]
    texts = [_label(part, names, place) for part in parts]
    return list(dict.fromkeys(text for text in texts if text))


def _label(cell: Any, names: Sequence[str] | None, place: str) -> str:
    if names is None or not isinstance(cell, int):
        return _text(cell)
    if not 0 <= cell < len(names):
        raise VitaskError(f"{place}: label {cell} is outside 0..{len(names) - 1}")
    return names[cell]


def _ids(table: Table, column: str | None, image: str) -> list[str]:
    source = column or (image if image in table.columns else None)
    if source is None:
        return [f"{table.path.stem}-{row:06d}" for row in range(len(table.places))]
    ids = [_text(cell) for cell in table.columns[source]]
    for row, name in enumerate(ids):
        if not name:
            raise VitaskError(f"{table.places[row]}: has no id in column '{source}'")
    return ids


def _texts(table: Table, column: str | None) -> list[str] | None:
    if column is None:
        return None
    texts = [_text(cell) for cell in table.columns[column]]
    for row, text in enumerate(texts):
        if not text:
            raise VitaskError(f"{table.places[row]}: is empty in column '{column}'")
    return texts


def _text(cell: Any) -> str:
    """Write a cell as text: a whole number without a fraction, nothing for what is missing."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, Mapping):
        cell = cell.get("path")
    return str(cell).strip()
