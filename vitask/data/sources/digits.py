"""scikit-learn's bundled handwritten digits: a real task that needs no download."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vitask.data.audit import audit
from vitask.data.labels import name_labels
from vitask.data.options import DataOptions
from vitask.data.splits import stratified_split
from vitask.data.task import TaskData, make_task

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FRACTIONS = (0.4, 0.3, 0.3)


def load_digits_task(
    label_texts: Mapping[str, str] | Sequence[str] | None = None, label_file: str | Path | None = None
) -> TaskData:
    """Load the 1,797 digits of 8x8 pixels, grey, split 40/30/30 % by class; the split is always the same.

    Args:
        label_texts: Label texts of your own, see `DataOptions`.
        label_file: A YAML file of texts, synonyms and definitions.

    Raises:
        UsageError: They do not fit the ten labels.

    Example:
        >>> task = load_digits_task()
        >>> task.splits["train"][0]["image"].size, len(task.splits["train"])
        ((8, 8), 719)
    """
    import datasets
    from PIL import Image
    from sklearn.datasets import load_digits

    raw = load_digits()
    pixels = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    parts = stratified_split(raw.target, FRACTIONS, names=LABELS)
    features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()})
    splits = {
        split: datasets.Dataset.from_dict(
            {"id": [f"digits-{row:04d}" for row in rows], "image": [Image.fromarray(pixels[row]) for row in rows]},
            features=features,
        )
        for split, rows in parts.items()
    }
    targets = {split: [[raw.target[row]] for row in rows] for split, rows in parts.items()}
    content = hashlib.sha256(pixels.tobytes()).hexdigest()
    file = DataOptions(label_file=label_file).labels()
    labels = name_labels(LABELS, own=label_texts, file=file, origin="digits")
    seen = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]).astype(bytes)
    sizes = np.full((len(pixels), 2), 8)
    found = audit({split: seen[rows] for split, rows in parts.items()}, targets, sizes)
    modality = file.modality or "handwritten digit"
    return make_task("digits", modality, labels, splits, targets, content=content, origin="digits", audit=found)
