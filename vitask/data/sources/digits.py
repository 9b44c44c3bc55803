"""scikit-learn's bundled handwritten digits: a real task that needs no download."""

from __future__ import annotations

import hashlib

import numpy as np

from vitask.data.splits import stratified_split
from vitask.data.task import TaskData, make_task

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FRACTIONS = (0.4, 0.3, 0.3)


def load_digits_task() -> TaskData:
    """Load the 1,797 digits of 8x8 pixels, grey, split 40/30/30 % by class; the split is always the same.

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
    return make_task("digits", "handwritten digit", LABELS, splits, targets, content=content, origin="digits")
