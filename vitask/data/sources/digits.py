"""scikit-learn's bundled handwritten digits, which need no download, as four tasks: one for each kind of task.

All four divide the images alike, so that no image of one task's training split is in another's test split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitask.data.audit import audit
from vitask.data.labels import name_labels
from vitask.data.options import DataOptions
from vitask.data.splits import stratified_split
from vitask.data.task import TaskData, make_task
from vitask.errors import UsageError, did_you_mean

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FRACTIONS = (0.4, 0.3, 0.3)
SIDE = 8


@dataclass(frozen=True)
class _Kind:
    """What is asked of the digits: what an image is called, the labels, and the label of each digit."""

    modality: str
    labels: Sequence[str]
    label_of: Sequence[int]
    ordinal: bool = False
    pairs: bool = False


KINDS = {
    "digits": _Kind("handwritten digit", LABELS, range(10)),
    "digits_parity": _Kind("handwritten number", ("even number", "odd number"), [0, 1] * 5),
    "digits_size": _Kind(
        "handwritten numeral", ("small", "medium", "large"), [0, 0, 0, 1, 1, 1, 1, 2, 2, 2], ordinal=True
    ),
    "digits_pairs": _Kind("handwritten digit pair", LABELS, range(10), pairs=True),
}


def load_digits_task(
    kind: str = "digits",
    label_texts: Mapping[str, str] | Sequence[str] | None = None,
    label_file: str | Path | None = None,
    separator: str = ", ",
) -> TaskData:
    """Load the 1,797 grey digits, split 40/30/30 % by digit; the split and the pairs are always the same.

    Args:
        kind: ``"digits"``: ten classes, 8x8 pixels. ``"digits_parity"``: even or odd. ``"digits_size"``: grades, small
            (0 to 2), medium (3 to 6) and large (7 to 9). ``"digits_pairs"``: two different digits side by side in
            16x16 pixels, labelled with both; as many pairs as images, each within a split.
        label_texts: Label texts of your own, see `DataOptions`.
        label_file: A YAML file of texts, synonyms and definitions.
        separator: What joins the labels of a pair.

    Raises:
        UsageError: There is no such kind, or the texts do not fit its labels.

    Example:
        >>> task = load_digits_task()
        >>> task.splits["train"][0]["image"].size, len(task.splits["train"])
        ((8, 8), 719)
        >>> load_digits_task("digits_pairs").answers[0].text
        'zero, one'
    """
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise UsageError(f"there is no kind of digits '{kind}'.{did_you_mean(kind, KINDS)} There are {known}")
    from sklearn.datasets import load_digits

    raw, what = load_digits(), KINDS[kind]
    pixels = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    parts = stratified_split(raw.target, FRACTIONS, names=LABELS)
    if what.pairs:
        images, digits, parts = _pairs(pixels, raw.target, parts)
    else:
        images, digits = pixels, raw.target[:, None]
    file = DataOptions(label_file=label_file).labels()
    labels = np.array(what.label_of)[digits]
    targets = {split: labels[rows].tolist() for split, rows in parts.items()}
    seen = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images]).astype(bytes)
    sizes = np.full((len(images), 2), images.shape[1:])
    return make_task(
        kind,
        file.modality or what.modality,
        name_labels(what.labels, own=label_texts, file=file, origin=kind),
        {split: _images(kind.replace("_", "-"), images, rows) for split, rows in parts.items()},
        targets,
        content=hashlib.sha256(images.tobytes()).hexdigest(),
        origin=kind,
        multi_label=what.pairs,
        ordinal=what.ordinal,
        separator=separator,
        audit=audit({split: seen[rows] for split, rows in parts.items()}, targets, sizes),
    )


def _images(prefix: str, images: NDArray[np.uint8], rows: Sequence[int]) -> Mapping[str, Sequence]:
    import datasets
    from PIL import Image

    return datasets.Dataset.from_dict(
        {"id": [f"{prefix}-{row:04d}" for row in rows], "image": [Image.fromarray(images[row]) for row in rows]},
        features=datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()}),
    )


def _pairs(
    pixels: NDArray[np.uint8], digits: NDArray[np.integer], parts: Mapping[str, Sequence[int]]
) -> tuple[NDArray[np.uint8], NDArray[np.integer], dict[str, list[int]]]:
    """Put beside each image one of another digit from its split, half of them to its left."""
    other = np.zeros(len(pixels), dtype=int)
    rng = np.random.default_rng(0)
    for rows in parts.values():
        for row in rows:
            other[row] = rng.choice([each for each in rows if digits[each] != digits[row]])
    both = np.stack([np.arange(len(pixels)), other], axis=1)
    both = np.where(rng.random((len(pixels), 1)) < 0.5, both, both[:, ::-1])
    images = np.zeros((len(pixels), 2 * SIDE, 2 * SIDE), dtype=np.uint8)
    for column in range(2):
        images[:, SIDE // 2 : SIDE // 2 + SIDE, column * SIDE : (column + 1) * SIDE] = pixels[both[:, column]]
    return images, digits[both], {split: list(rows) for split, rows in parts.items()}
