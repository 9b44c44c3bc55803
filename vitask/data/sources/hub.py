"""Hugging Face data sets: by hub name, from a folder that ``save_to_disk`` wrote, or from a folder of data files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.data.images import file_stamp
from vitask.data.options import DataOptions
from vitask.data.records import records_task
from vitask.data.sources.table import Columns, find_column, table_records
from vitask.data.sources.table_files import Table
from vitask.data.splits import split_of
from vitask.data.task import TaskData
from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    import datasets

SAVED = ("dataset_dict.json", "state.json")


def load_hub_task(
    path: str,
    modality: str = "input",
    *,
    name: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
    columns: Columns | None = None,
    **options: Any,
) -> TaskData:
    """Load an image data set through `datasets`; once it is there it is read without network.

    The label column's own class names are used, in their order. Splits are found by their usual names, or by
    ``split_names``; a missing validation split is taken out of train.

    Args:
        path: A name on the hub, a folder that ``save_to_disk`` wrote, or a folder of data files.
        modality: What the images are.
        name: Short name of the task; by default the last part of ``path``.
        subset: Which configuration of the data set.
        revision: Which revision on the hub: a branch, a tag, a commit.
        columns: Which column holds what; by default the first one of images and the first one of class labels.
        options: Choices as in `DataOptions`.

    Raises:
        UsageError: A column that was asked for is missing, or the subset is unknown.
        VitaskError: The data set cannot be reached or read, and what `records_task` raises.

    Example:
        >>> load_hub_task("ylecun/mnist", "handwritten digit", size=28).labels
        ('0', '1', '2', ...)
    """
    choices, columns = DataOptions(**options), columns or Columns()
    splits = _load(path, subset, revision)
    if choices.split_names:
        splits = {name: rows for name, rows in splits.items() if split_of(name, choices.split_names)} or splits
    whole = _joined(path, splits)
    columns = replace(
        columns,
        image=columns.image or _first(whole, "Image"),
        label=columns.label or _first(whole, "ClassLabel"),
    )
    table = _table(path, whole, [(name, row) for name, rows in splits.items() for row in range(len(rows))])
    records = table_records(
        table,
        columns,
        Path(),
        images=lambda column: HubImages(path, whole, column, table.places),
        no_finding=choices.no_finding,
    )
    known = (table.class_names or {}).get(find_column(table, "label", columns.label))
    return records_task(name or Path(path).name, modality, records, choices, known=known)


class HubImages:
    """The encoded images of a column.

    Args:
        path: What was loaded, for errors.
        rows: The data set.
        column: The column.
        places: Where each row stands.
    """

    def __init__(self, path: str, rows: datasets.Dataset, column: str, places: Sequence[str]) -> None:
        from datasets import Image

        if not isinstance(rows.features[column], Image):
            raise UsageError(f"{path}: the column '{column}' holds no images but {rows.features[column]}")
        self.rows = rows.select_columns([column]).cast_column(column, Image(decode=False))
        self.column = column
        self.places = places

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """Name data set, split and row."""
        return self.places[row]

    def stamp(self) -> str:
        """Digest the files behind the data set and what `datasets` did to them."""
        files = [file_stamp(Path(file["filename"])) for file in self.rows.cache_files]
        return f"{self.rows._fingerprint} {len(self.rows)} {files}"

    def items(self, start: int) -> Iterator[bytes]:
        """Yield the images' bytes."""
        for row in range(start, len(self.rows)):
            cell = self.rows[row][self.column] or {}
            data, path = cell.get("bytes"), cell.get("path")
            yield Path(path).read_bytes() if data is None and path else data or b""


def _load(path: str, subset: str | None, revision: str | None) -> Mapping[str, datasets.Dataset]:
    """Load all splits; whatever goes wrong ends in one line."""
    from datasets import DatasetDict, load_dataset, load_from_disk

    folder = Path(path).expanduser()
    try:
        if any((folder / name).is_file() for name in SAVED):
            loaded = load_from_disk(str(folder))
        else:
            loaded = load_dataset(str(folder) if folder.is_dir() else path, subset, revision=revision)
    except Exception as error:  # datasets, huggingface_hub, fsspec and pyarrow raise errors of their own
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if "BuilderConfig" in why or "Config name is missing" in why:
            raise UsageError(f"data.subset={subset}: {why}") from error
        raise VitaskError(f"{path}: cannot load this data set: {why}") from error
    return loaded if isinstance(loaded, DatasetDict) else {"train": loaded}


def _joined(path: str, splits: Mapping[str, datasets.Dataset]) -> datasets.Dataset:
    from datasets import concatenate_datasets

    try:
        return concatenate_datasets(list(splits.values()))
    except (ValueError, TypeError) as error:
        raise VitaskError(
            f"{path}: the splits have different columns; choose some with data.splits: {error}"
        ) from error


def _table(path: str, whole: datasets.Dataset, rows: Sequence[tuple[str, int]]) -> Table:
    """View the data set as a table, with the split and the place of each row; columns are read when asked for."""
    from datasets import ClassLabel, Image

    pictures = [name for name, kind in whole.features.items() if isinstance(kind, Image)]
    kinds = {name: getattr(kind, "feature", kind) for name, kind in whole.features.items() if name not in pictures}
    columns = {name: whole[name] for name in kinds}
    if {split for split, _ in rows} != {"train"}:
        columns["split"] = [split for split, _ in rows]
    columns.setdefault("id", [f"{split}-{row:06d}" for split, row in rows])
    places = [f"{path}, split '{split}', row {row}" for split, row in rows]
    class_names = {name: kind.names for name, kind in kinds.items() if isinstance(kind, ClassLabel)}
    return Table(Path(path), columns, places, pictures, class_names)


def _first(whole: datasets.Dataset, kind: str) -> str | None:
    """The first column whose type, or the type of whose lists, has that name."""
    for name, feature in whole.features.items():
        if type(getattr(feature, "feature", feature)).__name__ == kind:
            return name
    return None
