"""The 12 two-dimensional MedMNIST sets, read from MedMNIST's own ``.npz`` files at 28, 64, 128 or 224 pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vitask.data.images import file_stamp
from vitask.data.options import DataOptions
from vitask.data.records import Records, records_task
from vitask.data.sources.medmnist_texts import CAVEATS, MODALITIES, shipped_labels
from vitask.data.sources.npz import array_header, read_array, stream_rows
from vitask.data.task import SPLITS, TaskData
from vitask.errors import UsageError, VitaskError, did_you_mean

SIZES = (28, 64, 128, 224)


def load_medmnist_task(
    name: str, root: str | Path, size: int = 28, *, download: bool = False, **options: Any
) -> TaskData:
    """Load a MedMNIST set. The images are converted to Arrow once and read from disk from then on.

    Args:
        name: The set, e.g. ``"pneumoniamnist"``, ``"pneumonia"`` or ``"PneumoniaMNIST"``.
        root: The folder with ``<name>.npz`` (28 px) or ``<name>_<size>.npz``.
        size: Side of the images in pixels: 28, 64, 128 or 224.
        download: Fetch the file from MedMNIST's address when it is missing.
        options: Choices as in `DataOptions`; a label's name in the data is MedMNIST's own string for it.

    Raises:
        UsageError: ``name`` or ``size`` is unknown, or ``label_texts`` has the wrong length.
        VitaskError: The file is missing, damaged, or not what MedMNIST says it is.

    Example:
        >>> load_medmnist_task("pneumonia", root="~/.medmnist").labels
        ('normal', 'pneumonia')
    """
    name = _full_name(name)
    if size not in SIZES:
        raise UsageError(f"MedMNIST has no size {size}; choose from {', '.join(map(str, SIZES))}")
    from medmnist import INFO

    info = INFO[name]
    path = Path(root).expanduser() / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
    if not path.is_file():
        if not download:
            raise VitaskError(_how_to_get(path, info, size))
        _download(path, info, size)
    multi_label = info["task"].startswith("multi-label")
    for split in SPLITS:
        _check_headers(path, split, info, size, multi_label)
    images = NpzImages(path)
    given = list(info["label"].values())
    rows = [(split, row) for split, count in images.counts.items() for row in range(count)]
    records = Records(
        origin=str(path),
        places=[f"{path}: split '{split}', row {row}" for split, row in rows],
        ids=[f"{name}-{split}-{row:06d}" for split, row in rows],
        images=images,
        labels=[[given[i] for i in row] for split in SPLITS for row in _targets(path, split, len(given), multi_label)],
        multi_label=multi_label,
        splits=[split for split, _ in rows],
    )
    return records_task(
        name,
        MODALITIES[name],
        records,
        DataOptions(**options),
        known=given,
        shipped=shipped_labels(name),
        ordinal=info["task"].startswith("ordinal"),
        notes={**CAVEATS.get(name, {}), **_size_note(images.counts, info)},
    )


class NpzImages:
    """The image arrays of MedMNIST's three splits, one behind the other, read row by row.

    Args:
        path: The ``.npz`` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts = {split: array_header(path, f"{split}_images")[0][0] for split in SPLITS}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def name(self, row: int) -> str:
        """Name the file and the row over all splits."""
        return f"{self.path}, image {row}"

    def stamp(self) -> str:
        """Digest the file's place, size and time of change."""
        return file_stamp(self.path)

    def items(self, start: int) -> Iterator[np.ndarray]:
        """Yield the images' pixels."""
        for split, count in self.counts.items():
            if start < count:
                yield from islice(stream_rows(self.path, f"{split}_images"), start, None)
            start = max(0, start - count)


def _full_name(name: str) -> str:
    flag = name.strip().casefold()
    flag = flag if flag.endswith("mnist") else f"{flag}mnist"
    if flag not in MODALITIES:
        known = ", ".join(MODALITIES)
        raise UsageError(f"'{name}' is no 2D MedMNIST set; there are {known}.{did_you_mean(flag, MODALITIES)}")
    return flag


def _how_to_get(path: Path, info: dict[str, Any], size: int) -> str:
    url = info["url" if size == 28 else f"url_{size}"]
    return (
        f"{path}: no such file; set data.download=true to fetch it, or run 'python -m medmnist download "
        f"--root={path.parent} --size={size}' (all sets), or save {url} there"
    )


def _download(path: Path, info: dict[str, Any], size: int) -> None:
    from torchvision.datasets.utils import download_url

    suffix = "" if size == 28 else f"_{size}"
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        download_url(info[f"url{suffix}"], str(path.parent), filename=part.name, md5=info[f"MD5{suffix}"])
        part.replace(path)
    except (OSError, RuntimeError) as error:
        raise VitaskError(f"{path}: download of {info[f'url{suffix}']} failed: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _check_headers(path: Path, split: str, info: dict[str, Any], size: int, multi_label: bool) -> None:
    shape, dtype = array_header(path, f"{split}_images")
    image = (size, size, 3) if info["n_channels"] == 3 else (size, size)
    if shape[1:] != image or dtype != np.uint8:
        raise VitaskError(f"{path}: '{split}_images' is {dtype} of {shape}, not uint8 of (N, {str(image)[1:]}")
    if not shape[0]:
        raise VitaskError(f"{path}: split '{split}' is missing or has no images")
    rows = (shape[0], len(info["label"]) if multi_label else 1)
    shape, dtype = array_header(path, f"{split}_labels")
    if shape != rows or not np.issubdtype(dtype, np.integer):
        raise VitaskError(f"{path}: '{split}_labels' is {dtype} of {shape}, not integers of {rows}")


def _targets(path: Path, split: str, count: int, multi_label: bool) -> list[list[int]]:
    """Return the label indices of each row."""
    labels = read_array(path, f"{split}_labels")
    if not multi_label:
        outside = np.flatnonzero((labels < 0) | (labels >= count))
        if len(outside):
            row = outside[0]
            raise VitaskError(f"{path}: split '{split}', row {row}: label {labels[row, 0]} is outside 0..{count - 1}")
        return labels.tolist()
    odd = np.argwhere((labels != 0) & (labels != 1))
    if len(odd):
        row, column = odd[0]
        raise VitaskError(f"{path}: '{split}_labels', row {row}: {labels[row, column]} is neither 0 nor 1")
    return [np.flatnonzero(row).tolist() for row in labels]


def _size_note(counts: Mapping[str, int], info: dict[str, Any]) -> dict[str, str]:
    sizes = [counts[split] for split in SPLITS]
    official = [info["n_samples"][split] for split in SPLITS]
    if sizes == official:
        return {}
    text = "{}/{}/{} images in train/val/test, not the official {}/{}/{}"
    return {"not the official set": text.format(*sizes, *official)}
