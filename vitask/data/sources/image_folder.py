"""Images in folders, one folder a class: ``root/{train,val,test}/{class}/*`` or ``root/{class}/*``."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.data.sources.progress import with_progress
from vitask.data.splits import stratified_split
from vitask.data.task import SPLITS, TaskData, make_task
from vitask.errors import UsageError, VitaskError, did_you_mean

if TYPE_CHECKING:
    import datasets

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
Files = dict[str, list[Path]]  # class folder -> its images, sorted
Layout = tuple[list[str], dict[str, list[Path]], dict[str, list[list[int]]]]  # classes; files and targets by split


def load_image_folder_task(
    root: str | Path,
    modality: str,
    *,
    label_texts: Mapping[str, str] | None = None,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    split_seed: int = 0,
) -> TaskData:
    """Load a folder of images. Every image is read once, to check it and to fingerprint the data.

    Args:
        root: A folder with ``train``, ``val`` (or ``valid``, ``validation``) and ``test``, each with one folder a
            class; or with one folder a class, to be split here. Hidden files and other than images are ignored.
        modality: What the images are, e.g. ``"chest X-ray"``.
        label_texts: Label texts by folder name; by default the folder's name, with spaces for underscores.
        fractions: Of train, val and test, when the split is made here.
        split_seed: Seed of that split, which no other seed changes.

    Raises:
        UsageError: ``label_texts`` names a folder that does not exist, or ``fractions`` is invalid.
        VitaskError: A folder is missing or has no image, the splits have different classes, or an image cannot be read
            or has more than 8 bits a channel.

    Example:
        >>> load_image_folder_task("data/leaves", modality="leaf").labels
        ('healthy', 'leaf rust')
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise VitaskError(f"{root}: no such folder")
    classes, files, targets = _split_layout(root) or _class_layout(root, fractions, split_seed)
    ids = {split: [path.relative_to(root).as_posix() for path in files[split]] for split in SPLITS}
    digests, modes = _read_all([path for split in SPLITS for path in files[split]])
    splits = _datasets(ids, files, "L" if modes <= {"L", "1"} else "RGB")
    content = hashlib.sha256("".join(digests).encode()).hexdigest()
    labels = _label_texts(classes, label_texts or {})
    name = root.resolve().name
    return make_task(name, modality, labels, splits, targets, content=content, origin=str(root))


def _split_layout(root: Path) -> Layout | None:
    """Read ``root/{split}/{class}/*``; None when the root has no folder named like a split."""
    folders = {
        split: [root / name for name in names if (root / name).is_dir()] for split, names in SPLIT_FOLDERS.items()
    }
    if not any(folders.values()):
        return None
    for split, found in folders.items():
        if len(found) != 1:
            what = " and ".join(path.name for path in found) if found else "none"
            raise VitaskError(
                f"{root}: expected one folder for split '{split}' ({' or '.join(SPLIT_FOLDERS[split])}), found {what}; "
                "or put one folder a class there, and they are split here"
            )
    by_split = {split: _class_files(found[0]) for split, found in folders.items()}
    classes = list(by_split["train"])
    for split in SPLITS[1:]:
        differing = sorted(set(classes) ^ set(by_split[split]))
        if differing:
            raise VitaskError(f"{root}: train and {split} have different class folders: {', '.join(differing)}")
    files = {split: [path for name in classes for path in by_split[split][name]] for split in SPLITS}
    targets = {split: [[k] for k, name in enumerate(classes) for _ in by_split[split][name]] for split in SPLITS}
    return classes, files, targets


def _class_layout(root: Path, fractions: Sequence[float], seed: int) -> Layout:
    by_class = _class_files(root)
    paths = [path for found in by_class.values() for path in found]
    targets = [k for k, found in enumerate(by_class.values()) for _ in found]
    try:
        parts = stratified_split(targets, fractions, names=list(by_class), seed=seed)
    except UsageError:
        raise
    except VitaskError as error:
        raise VitaskError(f"{root}: {error}") from error
    files = {split: [paths[row] for row in rows] for split, rows in parts.items()}
    return list(by_class), files, {split: [[targets[row]] for row in rows] for split, rows in parts.items()}


def _class_files(folder: Path) -> Files:
    from PIL import Image

    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise VitaskError(f"{folder}: has no class folders")
    by_class: Files = {}
    for path in classes:
        visible = [file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path))]
        by_class[path.name] = sorted(file for file in visible if file.suffix.lower() in suffixes)
        if not by_class[path.name]:
            raise VitaskError(f"{path}: class folder has no image ({len(visible)} other files)")
    return by_class


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _label_texts(classes: Sequence[str], own: Mapping[str, str]) -> list[str]:
    for name in own:
        if name not in classes:
            raise UsageError(f"label_texts: there is no class folder '{name}'.{did_you_mean(name, classes)}")
    return [own.get(name, name.replace("_", " ")) for name in classes]


def _datasets(ids: dict[str, list[str]], files: dict[str, list[Path]], mode: str) -> dict[str, datasets.Dataset]:
    from datasets import Dataset, Features, Image, Value

    features = Features({"id": Value("string"), "image": Image(mode=mode)})
    columns = {split: {"id": ids[split], "image": [str(path.resolve()) for path in files[split]]} for split in SPLITS}
    return {split: Dataset.from_dict(columns[split], features=features) for split in SPLITS}


def _read_all(paths: list[Path]) -> tuple[list[str], set[str]]:
    """Decode every image; return the digest of each file and the set of colour modes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(with_progress(pool.map(_read, paths), len(paths), "checking images"))
    digests, modes = zip(*results, strict=True)
    return list(digests), set(modes)


def _read(path: Path) -> tuple[str, str]:
    from PIL import Image

    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            mode = image.mode
    except Exception as error:  # Pillow raises whatever its decoders meet in a damaged file
        raise VitaskError(f"{path}: cannot read this image ({error})") from error
    if mode[0] in "IF":
        raise VitaskError(f"{path}: has more than 8 bits a channel (mode {mode}); convert the images to 8 bits first")
    return hashlib.sha256(data).hexdigest(), mode
