"""Diabetic retinopathy sets in their published layouts, with RetinaMNIST's labels: APTOS 2019, IDRiD, MESSIDOR."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitask.data.options import DataOptions
from vitask.data.records import Records, join_records, records_task
from vitask.data.sources.medmnist_texts import MODALITIES, shipped_labels
from vitask.data.sources.published import existing_root, image_finder, one_file, rows_of
from vitask.data.sources.table import Columns, find_column, table_records
from vitask.data.sources.table_files import READERS, Table, read_table
from vitask.data.task import TaskData
from vitask.errors import VitaskError

GRADES = ("0", "1", "2", "3", "4")
IDRID_COLUMNS = Columns("Image name", "Retinopathy grade")
FOUR_GRADES = {
    "grading": "MESSIDOR has four grades of its own, read as RetinaMNIST's first four; its grade 3 covers 4 as well"
}


def load_aptos2019_task(root: str | Path, **options: Any) -> TaskData:
    """Load APTOS 2019: ``train.csv`` (``id_code``, ``diagnosis``) and ``train_images/*.png``, split here.

    Raises:
        VitaskError: The folder is not laid out like that, and what `records_task` raises.

    Example:
        >>> load_aptos2019_task("~/aptos2019-blindness-detection").labels[4]
        'proliferative retinopathy'
    """
    root = existing_root(root, "APTOS 2019, with train.csv and train_images/")
    table = read_table(one_file(root, "train.csv"))
    images = root / "train_images" if (root / "train_images").is_dir() else root
    columns = Columns("id_code", "diagnosis", split="", group="", id="id_code")
    return _task("aptos2019", table_records(table, columns, root, find=image_finder(images)), options)


def load_idrid_task(root: str | Path, **options: Any) -> TaskData:
    """Load IDRiD's part B, disease grading; its training and testing sets stay, val is taken out of training.

    Args:
        root: The folder ``B. Disease Grading``, or one that holds it.
        options: Choices as in `DataOptions`.

    Raises:
        VitaskError: The folder is not laid out like that, and what `records_task` raises.
    """
    root = existing_root(root, "IDRiD, with 'B. Disease Grading' or its two folders")
    parts = []
    for split, word in (("train", "Training"), ("test", "Testing")):
        table = read_table(one_file(root, f"*Disease Grading_{word} Labels.csv", f"*Grading*{word}*.csv"))
        folders = sorted(
            path for path in root.rglob(f"*{word} Set*") if path.is_dir() and "Segmentation" not in str(path)
        )
        if not folders:
            raise VitaskError(f"{root}: has no folder '{word} Set' of images in it or below it")
        found = _read(table, IDRID_COLUMNS, folders[0])
        ids = [f"{split}/{name}" for name in found.ids]  # both sets count from 001
        parts.append(replace(found, ids=ids, splits=[split] * len(ids)))
    return _task("idrid", join_records(str(root), parts), options)


def load_messidor_task(root: str | Path, **options: Any) -> TaskData:
    """Load MESSIDOR or MESSIDOR-2, split here; whichever table lies in the folder says which.

    MESSIDOR-2 with the adjudicated grades: a CSV with ``image_id`` and ``adjudicated_dr_grade`` (0 to 4); images that
    were judged not gradable are left out. MESSIDOR: its ``Annotation_Base*.xls`` (or the same saved as CSV) with
    ``Image name`` and ``Retinopathy grade`` (0 to 3); ``.xls`` needs ``pip install vitask[excel]``.

    Raises:
        UsageError: The tables are ``.xls`` and the extra ``excel`` is not installed.
        VitaskError: There is no such table, and what `records_task` raises.
    """
    root = existing_root(root, "MESSIDOR, with its images and its tables of grades")
    tables = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in READERS]
    annotations = [path for path in tables if path.name.casefold().startswith("annotation")]
    if annotations:
        distinct = {path.stem.casefold(): path for path in sorted(annotations, key=lambda path: path.suffix != ".xls")}
        parts = [_read(read_table(path), IDRID_COLUMNS, root) for path in sorted(distinct.values())]
        return _task("messidor", join_records(str(root), parts), options, FOUR_GRADES)
    for path in tables:
        table = read_table(path)
        if "adjudicated_dr_grade" in table.columns:
            graded = [
                row for row, grade in enumerate(table.columns["adjudicated_dr_grade"]) if str(grade or "").strip()
            ]
            left_out = len(table.places) - len(graded)
            name = find_column(table, "image", "image_id" if "image_id" in table.columns else None)
            records = _read(rows_of(table, graded), Columns(name, "adjudicated_dr_grade"), root)
            notes = {"not gradable": f"{left_out} images without a grade left out"} if left_out else {}
            return _task("messidor2", records, options, notes)
    raise VitaskError(
        f"{root}: has neither Annotation_Base*.xls or .csv (MESSIDOR) nor a CSV with the column 'adjudicated_dr_grade' "
        "(MESSIDOR-2)"
    )


def _read(table: Table, columns: Columns, root: Path) -> Records:
    return table_records(table, replace(columns, split="", group="", id=""), root, find=image_finder(root))


def _task(name: str, records: Records, options: dict[str, Any], notes: dict[str, str] | None = None) -> TaskData:
    grades = [[label.removesuffix(".0") for label in row] for row in records.labels]  # as pandas writes numbers
    choices = DataOptions(**{"allow_missing": True, **options})
    return records_task(
        name,
        MODALITIES["retinamnist"],
        replace(records, labels=grades),
        choices,
        known=GRADES,
        shipped=shipped_labels("retinamnist"),
        ordinal=True,
        notes=notes,
    )
