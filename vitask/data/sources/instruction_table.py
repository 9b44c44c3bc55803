"""Your own table of images, instructions and responses: question answering, captioning, anything answered in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.data.assignment import assign_splits
from vitask.data.audit import Audit, audit
from vitask.data.conversion import Converted, convert
from vitask.data.images import FileImages, ImageSource
from vitask.data.open_task import make_open_task
from vitask.data.options import DataOptions
from vitask.data.records import Records, check_unique
from vitask.data.sources.table import Columns, column_images, find_column
from vitask.data.sources.table_files import Table, read_table
from vitask.data.split import Split, labelled
from vitask.data.splits import ALL_IN_TEST
from vitask.data.task import SPLITS, TaskData
from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROLES = ("image", "instruction", "response", "split", "group", "id")


def load_instruction_task(
    path: str | Path,
    modality: str = "input",
    *,
    instruction: str | None = None,
    name: str | None = None,
    root: str | Path | None = None,
    columns: Columns | None = None,
    **options: Any,
) -> TaskData:
    """Load a table with a row a question. An image that several rows name is checked, converted and kept once.

    Args:
        path: The table, of any kind that `load_table_task` reads.
        modality: What the images are.
        instruction: What is asked of every image, for a table without that column (``columns.instruction=""``).
        name: Short name of the task; by default the file's.
        root: What image paths are relative to; by default the table's folder.
        columns: Which column holds what.
        options: Choices as in `DataOptions`. Splits that are made here keep all rows of an image together, and all
            rows of a group.

    Raises:
        UsageError: The kind of table is unknown, or a column that was asked for is missing.
        VitaskError: A cell is empty or no text, an id occurs twice, an image is missing or damaged, or a split is
            unknown or empty.

    Example:
        >>> load_instruction_task("questions.jsonl").splits["train"][0]["instruction"]
        'What color is the shape?'
    """
    table, asked, choices = read_table(path), columns or Columns(), DataOptions(**options)
    if not table.places:
        raise VitaskError(f"{table.path}: has no rows")
    roles = [role for role in ROLES if role != "instruction" or asked.instruction != ""]
    found = dict.fromkeys(ROLES) | {role: find_column(table, role, getattr(asked, role)) for role in roles}
    if found["instruction"] is None and not instruction:
        raise UsageError(f"{table.path}: has no instructions; say what is asked with data.instruction.template=...")
    texts = {role: _texts(table, found[role]) for role in ROLES[1:]}
    texts["instruction"] = texts["instruction"] or [instruction] * len(table.places)
    texts["picture"] = _names(table, found["image"])
    texts["id"] = texts["id"] or _numbered(texts["picture"])
    check_unique(texts["id"], table.places)
    root = Path(root).expanduser() if root is not None else table.path.parent
    source, shown = _distinct(column_images(table, found["image"], root), table.places)
    converted = convert(
        source,
        [f"{image}" for image in range(len(source))],
        cache_dir=choices.cache_dir,
        name=name or table.path.stem,
        size=choices.size,
        skip_corrupt=choices.skip_corrupt,
    )
    responses = list(dict.fromkeys(texts["response"]))
    kept, whole = _rows(texts, responses, converted, shown)
    parts, notes = assign_splits(
        _records(table, source, kept, whole, texts, choices), [(0,)] * len(whole), ["response"], choices
    )
    splits = {split: whole.select(parts[split]) for split in SPLITS}
    return make_open_task(
        name or table.path.stem,
        modality,
        splits,
        responses,
        content=converted.content,
        origin=str(table.path),
        allow_empty=tuple(choices.fractions) == ALL_IN_TEST,
        audit=_audit(splits, converted),
        notes=notes,
    )


def _rows(
    texts: Mapping[str, Sequence[str]], responses: Sequence[str], converted: Converted, shown: NDArray[np.integer]
) -> tuple[list[int], Split]:
    """Return which rows of the table have an image, and all of these as one split."""
    stored = np.full(shown.max() + 1, -1)
    stored[converted.rows] = np.arange(len(converted.rows))
    kept = np.flatnonzero(stored[shown] >= 0).tolist()
    places = stored[shown[kept]]
    numbers = {text: number for number, text in enumerate(responses)}
    _, first, same = np.unique(converted.pixels[places], return_index=True, return_inverse=True)
    more = {
        "instruction": [texts["instruction"][row] for row in kept],
        "picture": [texts["picture"][kept[row]] for row in first[same]],
    }
    answers = [numbers[texts["response"][row]] for row in kept]
    images = labelled(converted.dataset, answers, places.tolist())["image"]
    return kept, Split([texts["id"][row] for row in kept], images, answers, more)


def _records(
    table: Table,
    source: ImageSource,
    kept: Sequence[int],
    whole: Split,
    texts: Mapping[str, Sequence[str] | None],
    choices: DataOptions,
) -> Records:
    """Return what the assignment of splits looks at.

    Rows of one image stay together wherever a split is made here; the source's own splits may share an image, which is
    counted beside results.
    """
    places, pictures = [table.places[row] for row in kept], whole["picture"]
    splits, groups = ([texts[role][row] for row in kept] if texts[role] else None for role in ("split", "group"))
    if groups:
        _check_groups(groups, pictures, places)
    return Records(
        str(table.path),
        places,
        whole["id"],
        source,
        (),
        splits=splits,
        groups=groups or pictures,
        groups_bind_splits=bool(groups),
    )


def _check_groups(groups: Sequence[str], pictures: Sequence[str], places: Sequence[str]) -> None:
    """Raise a `VitaskError` if the rows of an image are in two groups."""
    first: dict[str, int] = {}
    for row, picture in enumerate(pictures):
        other = first.setdefault(picture, row)
        if groups[other] != groups[row]:
            raise VitaskError(
                f"{places[row]}: group '{groups[row]}', but {places[other]} shows the same image in group "
                f"'{groups[other]}'; an image belongs to one group"
            )


def _texts(table: Table, column: str | None) -> list[str] | None:
    """Read a column of texts; numbers count as what is written."""
    if column is None:
        return None
    texts = []
    for cell, place in zip(table.columns[column], table.places, strict=True):
        if isinstance(cell, bool | list | Mapping):
            raise VitaskError(f"{place}: expected a text in column '{column}', got {cell!r:.60}")
        text = "" if cell is None or cell != cell else str(cell).strip()
        if not text:
            raise VitaskError(f"{place}: has no text in column '{column}'")
        texts.append(text)
    return texts


def _distinct(images: ImageSource, places: Sequence[str]) -> tuple[ImageSource, NDArray[np.integer]]:
    """Return every file once, and which of them each row shows; encoded images stay as they are, one a row."""
    if not isinstance(images, FileImages):
        return images, np.arange(len(images))
    first: dict[Path, int] = {}
    for row, path in enumerate(images.paths):
        first.setdefault(path, row)
    numbers = {path: number for number, path in enumerate(first)}
    return FileImages(list(first), [places[row] for row in first.values()]), np.array(
        [numbers[path] for path in images.paths]
    )


def _names(table: Table, column: str) -> list[str]:
    """Name the image of each row as the table does; one that stands in the table itself by its row."""
    if column not in table.columns:
        return [f"{table.path.stem}-{row:06d}" for row in range(len(table.places))]
    return [str(cell).strip() for cell in table.columns[column]]


def _numbered(names: Sequence[str]) -> list[str]:
    """Tell the rows of one image apart by a number."""
    total, seen = Counter(names), Counter()
    ids = []
    for name in names:
        seen[name] += 1
        ids.append(name if total[name] == 1 else f"{name}#{seen[name]}")
    return ids


def _audit(splits: Mapping[str, Split], converted: Converted) -> Audit:
    """Count over distinct images; several questions about one are no duplicates."""
    distinct = {split: np.unique(np.array(rows["picture"], dtype=str)) for split, rows in splits.items()}
    nothing = {split: [()] * len(found) for split, found in distinct.items()}
    return audit(distinct, nothing, converted.sizes, len(converted.skipped))
