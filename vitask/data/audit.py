"""What is worth knowing about a task's images before trusting a result: duplicates, contradictions, sizes, gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS = (("val", "train"), ("test", "train"), ("test", "val"))


@dataclass(frozen=True)
class Audit:
    """Counts over a task's images; two images are the same when all their pixels are.

    Attributes:
        across: For ``(split, other)`` how many images of the split are in the other one too; no zeros.
        within: How many images of a split occur in it before; no zeros.
        contradictions: How many distinct images have different labels in different places.
        sizes: How often each width and height occurs.
        skipped: How many images were left out, because they do not decode.
    """

    across: Mapping[tuple[str, str], int] = field(default_factory=dict)
    within: Mapping[str, int] = field(default_factory=dict)
    contradictions: int = 0
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    skipped: int = 0


def audit(
    pixels: Mapping[str, NDArray[np.bytes_]],
    labels: Mapping[str, Sequence[Sequence[int]]],
    sizes: NDArray[np.integer],
    skipped: int = 0,
) -> Audit:
    """Compare images by the digests of their pixels.

    Args:
        pixels: The digests of each split, ``(N,)``.
        labels: The labels of each image of each split.
        sizes: Width and height of every image, ``(images, 2)``.
        skipped: Images that were left out.

    Example:
        >>> audit({"train": np.array([b"a"]), "val": np.array([b"b"]), "test": np.array([b"a"])}, labels, sizes).across
        {('test', 'train'): 1}
    """
    across = {(one, other): int(np.isin(pixels[one], pixels[other]).sum()) for one, other in PAIRS}
    within = {split: len(digests) - len(np.unique(digests)) for split, digests in pixels.items()}
    shapes, counts = np.unique(sizes, axis=0, return_counts=True)
    common = np.argsort(-counts, kind="stable")
    return Audit(
        {pair: count for pair, count in across.items() if count},
        {split: count for split, count in within.items() if count},
        _contradictions(pixels, labels),
        {(int(shapes[i][0]), int(shapes[i][1])): int(counts[i]) for i in common},
        skipped,
    )


def _contradictions(pixels: Mapping[str, NDArray[np.bytes_]], labels: Mapping[str, Sequence[Sequence[int]]]) -> int:
    """Count the distinct images that come with more than one set of labels."""
    codes: dict[tuple[int, ...], int] = {}
    given = [codes.setdefault(tuple(row), len(codes)) for split in pixels for row in labels[split]]
    images = np.unique(np.concatenate(list(pixels.values())), return_inverse=True)[1]
    distinct = np.unique(np.stack([images, np.array(given, dtype=int)], axis=1), axis=0)
    return int((np.bincount(distinct[:, 0]) > 1).sum()) if len(distinct) else 0


def audit_notes(found: Audit, totals: Mapping[str, int]) -> dict[str, str]:
    """Say what belongs beside every result: images shared between splits, and images left out.

    Example:
        >>> audit_notes(Audit(across={("test", "train"): 3}), {"train": 80, "val": 10, "test": 20})
        {'duplicate images': '3 of 20 test images are in train too'}
    """
    notes = {}
    if found.across:
        shared = [f"{n} of {totals[one]} {one} images are in {other} too" for (one, other), n in found.across.items()]
        notes["duplicate images"] = "; ".join(shared)
    if found.skipped:
        plural = "image that does" if found.skipped == 1 else "images that do"
        notes["corrupt images"] = f"{found.skipped} {plural} not decode left out"
    return notes
