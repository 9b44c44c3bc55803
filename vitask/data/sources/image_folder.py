"""Images in folders, one folder a class: ``root/{train,val,test}/{class}/*`` or ``root/{class}/*``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitask.data.images import FileImages
from vitask.data.labels import Label
from vitask.data.options import DataOptions
from vitask.data.records import Records, records_task
from vitask.data.splits import ALIASES
from vitask.data.task import SPLITS, TaskData
from vitask.errors import VitaskError

Files = Mapping[str, Sequence[Path]]  # class folder -> its images, sorted


def load_image_folder_task(root: str | Path, modality: str, *, name: str | None = None, **options: Any) -> TaskData:
    """Load a folder of images. Every image is read once, checked, and converted to Arrow.

    Args:
        root: A folder with ``train`` and ``test``, and ``val`` if it is not to be taken out of train here, each with
            one folder a class (``Training``, ``Testing``, ``valid``, ``validation`` and ``dev`` are known as well); or
            with one folder a class, to be split here. Hidden files and other than images are ignored.
        modality: What the images are, e.g. ``"chest X-ray"``.
        name: Short name of the task; by default the folder's.
        options: Choices as in `DataOptions`; a label's name in the data is its folder's name, its text by default the
            same with spaces for underscores.

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
    choices = DataOptions(**options)
    by_split = _split_folders(root, choices.allow_missing)
    parts = by_split or {"": _class_files(root)}
    rows = [(split, label, path) for split, files in parts.items() for label, paths in files.items() for path in paths]
    ids = [path.relative_to(root).as_posix() for _, _, path in rows]
    records = Records(
        origin=str(root),
        places=[str(path) for _, _, path in rows],
        ids=ids,
        images=FileImages([path for _, _, path in rows]),
        labels=[[label] for _, label, _ in rows],
        splits=[split for split, _, _ in rows] if by_split else None,
    )
    classes = sorted({label for _, label, _ in rows})
    readable = {label: Label(label, label.replace("_", " ")) for label in classes}
    title = name or root.resolve().name
    return records_task(title, modality, records, choices, shipped=readable, what="class folder")


def _split_folders(root: Path, may_differ: bool) -> dict[str, Files] | None:
    """Read ``root/{split}/{class}/*``; None when the root has no folder named like a split."""
    inside = sorted(path for path in root.iterdir() if path.is_dir())
    folders = {split: [path for path in inside if path.name.casefold() in ALIASES[split]] for split in SPLITS}
    if not any(folders.values()):
        return None
    for split, found in folders.items():
        if len(found) != 1 and (found or split != "val"):
            what = " and ".join(path.name for path in found) if found else "none"
            raise VitaskError(
                f"{root}: expected one folder for split '{split}' ({' or '.join(ALIASES[split])}), found {what}; "
                "or put one folder a class there, and they are split here"
            )
    by_split = {split: _class_files(found[0]) for split, found in folders.items() if found}
    for split in list(by_split)[1:]:
        differing = sorted(set(by_split["train"]) ^ set(by_split[split]))
        if differing and not may_differ:
            raise VitaskError(f"{root}: train and {split} have different class folders: {', '.join(differing)}")
    return by_split


def _class_files(folder: Path) -> Files:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise VitaskError(f"{folder}: has no class folders")
    by_class = {}
    for path in classes:
        by_class[path.name] = images_below(path)
        if not by_class[path.name]:
            raise VitaskError(f"{path}: class folder has no image ({len(_visible(path))} other files)")
    return by_class


def images_below(folder: Path) -> list[Path]:
    """Return the images in a folder and in those below it, sorted; hidden ones are left out.

    Example:
        >>> images_below(Path("photos"))
        [PosixPath('photos/oak/1.png'), PosixPath('photos/oak/2.jp2')]
    """
    suffixes = image_suffixes()
    return sorted(file for file in _visible(folder) if file.suffix.lower() in suffixes)


def image_suffixes() -> set[str]:
    """Return the endings of file names that Pillow reads."""
    from PIL import Image

    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _visible(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and not _hidden(file.relative_to(folder))]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
