"""HAM10000: dermatoscopic images of pigmented skin lesions, in the layout that its authors publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitask.data.labels import Label
from vitask.data.options import DataOptions
from vitask.data.records import records_task
from vitask.data.sources.medmnist_texts import CAVEATS, MODALITIES, shipped_labels
from vitask.data.sources.published import existing_root, image_finder, one_file
from vitask.data.sources.table import Columns, table_records
from vitask.data.sources.table_files import read_table
from vitask.data.task import TaskData

DIAGNOSES = {
    "akiec": "actinic keratoses and intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis-like lesions",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevi",
    "vasc": "vascular lesions",
}
PAPER_FRACTIONS = (0.7, 0.1, 0.2)


def load_ham10000_task(root: str | Path, *, by_lesion: bool = False, **options: Any) -> TaskData:
    """Load HAM10000: ``HAM10000_metadata.csv`` (``lesion_id``, ``image_id``, ``dx``) and folders of ``.jpg`` images.

    Its labels are DermaMNIST's. The split is made here, 70/10/20 % by class as in the paper, with a fixed seed.

    Args:
        root: The folder with the table; images may be in any folders below it.
        by_lesion: Keep all images of a lesion in one split; the paper does not.
        options: Choices as in `DataOptions`.

    Raises:
        VitaskError: The folder is not laid out like that, and what `records_task` raises.

    Example:
        >>> load_ham10000_task("~/ham10000", by_lesion=True, size=224).notes["split"]
        'made here, 70/10/20 % for train/val/test, groups kept together, seed 0'
    """
    root = existing_root(root, "HAM10000, with HAM10000_metadata.csv and its images")
    table = read_table(one_file(root, "HAM10000_metadata.csv", "HAM10000_metadata*.csv", "HAM10000_metadata*.tsv"))
    columns = Columns("image_id", "dx", split="", group="lesion_id" if by_lesion else "", id="image_id")
    records = table_records(table, columns, root, find=image_finder(root))
    texts = shipped_labels("dermamnist")
    labels = {name: texts.get(raw, Label(raw, raw)) for name, raw in DIAGNOSES.items()}
    return records_task(
        "ham10000",
        MODALITIES["dermamnist"],
        records,
        DataOptions(**{"fractions": PAPER_FRACTIONS, **options}),
        known=list(DIAGNOSES),
        shipped=labels,
        notes={} if by_lesion else CAVEATS["dermamnist"],
    )
