"""The 12 two-dimensional MedMNIST sets, read from MedMNIST's own ``.npz`` files at 28, 64, 128 or 224 pixels."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.data.sources.medmnist_texts import CAVEATS, LABEL_TEXTS, MODALITIES
from vitask.data.sources.npz import array_header, read_array, stream_rows
from vitask.data.sources.progress import with_progress
from vitask.data.task import SPLITS, TaskData, make_task
from vitask.errors import UsageError, VitaskError, did_you_mean

if TYPE_CHECKING:
    import datasets

SIZES = (28, 64, 128, 224)


def load_medmnist_task(
    name: str,
    root: str | Path,
    size: int = 28,
    *,
    label_texts: Sequence[str] | None = None,
    raw_labels: bool = False,
    separator: str = ", ",
    no_finding: str = "no finding",
    download: bool = False,
    cache_dir: str | Path | None = None,
) -> TaskData:
    """Load a MedMNIST set. The images are converted to Arrow once and read from disk from then on.

    Args:
        name: The set, e.g. ``"pneumoniamnist"``, ``"pneumonia"`` or ``"PneumoniaMNIST"``.
        root: The folder with ``<name>.npz`` (28 px) or ``<name>_<size>.npz``.
        size: Side of the images in pixels: 28, 64, 128 or 224.
        label_texts: Label texts of your own, one a label.
        raw_labels: Use MedMNIST's own strings, not this package's more readable ones.
        separator: What joins labels in one answer (multi-label sets).
        no_finding: The answer for an image without labels (multi-label sets).
        download: Fetch the file from MedMNIST's address when it is missing.
        cache_dir: Where the Arrow files go; by default ``vitask`` in the cache folder of ``datasets``.

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
    content = _sha256(path)
    folder = _cache_folder(cache_dir) / f"{name}-{size}-{content[:32]}"
    return make_task(
        name,
        MODALITIES[name],
        _label_texts(name, info, label_texts, raw_labels),
        {split: _images(path, name, split, folder) for split in SPLITS},
        {split: _targets(path, split, multi_label) for split in SPLITS},
        content=content,
        origin=str(path),
        multi_label=multi_label,
        separator=separator,
        no_finding=no_finding,
        notes={**CAVEATS.get(name, {}), **_size_note(path, info)},
    )


def _full_name(name: str) -> str:
    flag = name.strip().casefold()
    flag = flag if flag.endswith("mnist") else f"{flag}mnist"
    if flag not in MODALITIES:
        known = ", ".join(MODALITIES)
        raise UsageError(f"'{name}' is no 2D MedMNIST set; there are {known}.{did_you_mean(flag, MODALITIES)}")
    return flag


def _label_texts(name: str, info: dict[str, Any], own: Sequence[str] | None, raw: bool) -> list[str]:
    given = [info["label"][str(i)] for i in range(len(info["label"]))]
    if own is not None:
        if len(own) != len(given):
            raise UsageError(f"{name} has {len(given)} labels ({given}), but label_texts has {len(own)}: {list(own)}")
        return list(own)
    readable = {} if raw else LABEL_TEXTS.get(name, {})
    return [readable.get(text, text) for text in given]


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
    rows = (shape[0], len(info["label"]) if multi_label else 1)
    shape, dtype = array_header(path, f"{split}_labels")
    if shape != rows or not np.issubdtype(dtype, np.integer):
        raise VitaskError(f"{path}: '{split}_labels' is {dtype} of {shape}, not integers of {rows}")


def _targets(path: Path, split: str, multi_label: bool) -> list[list[int]]:
    labels = read_array(path, f"{split}_labels")
    if not multi_label:
        return labels.tolist()
    odd = np.argwhere((labels != 0) & (labels != 1))
    if len(odd):
        row, column = odd[0]
        raise VitaskError(f"{path}: '{split}_labels', row {row}: {labels[row, column]} is neither 0 nor 1")
    return [np.flatnonzero(row).tolist() for row in labels]


def _size_note(path: Path, info: dict[str, Any]) -> dict[str, str]:
    sizes = [array_header(path, f"{split}_labels")[0][0] for split in SPLITS]
    official = [info["n_samples"][split] for split in SPLITS]
    if sizes == official:
        return {}
    text = "{}/{}/{} images in train/val/test, not the official {}/{}/{}"
    return {"not the official set": text.format(*sizes, *official)}


def _images(path: Path, name: str, split: str, folder: Path) -> datasets.Dataset:
    """Return the split's ids and images from the Arrow cache, which is written first when it is not there."""
    from datasets import Dataset, Features, Image, Value
    from datasets.arrow_writer import ArrowWriter

    target = folder / f"{split}.arrow"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        features = Features({"id": Value("string"), "image": Image()})
        try:
            with ArrowWriter(path=str(part), features=features, writer_batch_size=256) as writer:
                for row, image in enumerate(_encoded(path, split)):
                    writer.write({"id": f"{name}-{split}-{row:06d}", "image": {"bytes": image, "path": None}})
                writer.finalize()
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return Dataset.from_file(str(target))


def _encoded(path: Path, split: str) -> Iterator[bytes]:
    from PIL import Image

    key = f"{split}_images"
    total = array_header(path, key)[0][0]
    for pixels in with_progress(stream_rows(path, key), total, f"converting {path.name}, {split}"):
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, format="PNG", compress_level=1)
        yield png.getvalue()


def _cache_folder(cache_dir: str | Path | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    from datasets.config import HF_DATASETS_CACHE

    return Path(HF_DATASETS_CACHE) / "vitask"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
