"""One picture of a data set: a row of images for each label, with the label's number and text above it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitask.data.task import TaskData
from vitask.files import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

TILE, GAP, CAPTION = 96, 4, 16
MOST_LABELS = 40


def write_contact_sheet(task: TaskData, path: Path, columns: int = 8) -> None:
    """Draw up to ``columns`` images a label, of the training split if it has any, and write a PNG.

    Of an open-ended task these are images an instruction.

    Args:
        task: The task; of more than 40 labels the first 40 are drawn.
        path: The file; its folder is made.
        columns: Images a label at most.

    Example:
        >>> write_contact_sheet(digits, Path("digits.png"))
    """
    from PIL import Image, ImageDraw

    split = "train" if len(task.splits["train"]) else "test"
    rows = list(_rows_by_label(task, split, columns))[:MOST_LABELS]
    height = len(rows) * (TILE + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, found) in enumerate(rows):
        top = GAP + number * (TILE + CAPTION + GAP)
        text = label if found else f"{label}: no image in {split}"
        draw.text((GAP, top), f"{number}  {drawable(text, columns * 16)}", fill="black")
        for column, row in enumerate(found):
            tile = _tile(task.splits[split][row]["image"])
            left = GAP + column * (TILE + GAP) + (TILE - tile.width) // 2
            sheet.paste(tile, (left, top + CAPTION + (TILE - tile.height) // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda temporary: sheet.save(temporary, format="PNG"))


def drawable(text: str, longest: int) -> str:
    """Return what Pillow's own font can draw in one line: Latin letters, anything else as ``?``, cut when too long.

    Example:
        >>> drawable("naïve\\n病", 20)
        'naïve ?'
    """
    plain = " ".join(text.split()).encode("latin-1", "replace").decode("latin-1")
    plain = "".join(letter if letter.isprintable() else "?" for letter in plain)
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."


def _rows_by_label(task: TaskData, split: str, count: int) -> Iterator[tuple[str, Sequence[int]]]:
    if task.open_ended:
        asked = np.asarray(task.splits[split]["instruction"])
        for text in dict.fromkeys(asked.tolist()):
            yield text, _spread(np.flatnonzero(asked == text), count)
        return
    answers = np.asarray(task.splits[split]["answer"][:])
    for label, text in enumerate(task.labels):
        with_label = [i for i, answer in enumerate(task.answers) if label in answer.labels]
        rows = np.flatnonzero(np.isin(answers, with_label))
        yield text, _spread(rows, count)


def _spread(rows: np.ndarray, count: int) -> list[int]:
    """Choose rows from the whole of the split."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)].tolist()


def _tile(image: Image) -> Image:
    from PIL import Image

    scale = TILE / max(image.size)
    shape = tuple(max(1, round(side * scale)) for side in image.size)
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return image.convert("RGB").resize(shape, kind)
