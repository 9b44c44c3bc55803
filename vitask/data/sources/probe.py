"""A probe of a VLM's general ability: your own table of images, prompts and right answers."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.data.images import ImageSource, UnreadableImage, prepare
from vitask.data.sources.table import column_images
from vitask.data.sources.table_files import Table, read_table
from vitask.errors import UsageError, VitaskError, did_you_mean

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = ("image", "prompt", "answer")


@dataclass(frozen=True)
class Probe:
    """Images, what is asked about each, and the right answers.

    Attributes:
        name: Short name.
        images: One a row.
        prompts: What is asked.
        answers: What is right.
    """

    name: str
    images: ImageSource
    prompts: Sequence[str]
    answers: Sequence[str]

    def __len__(self) -> int:
        return len(self.prompts)

    def fingerprint(self) -> str:
        """Digest texts, and the place, size and time of change of the images."""
        text = json.dumps([self.images.stamp(), list(self.prompts), list(self.answers)])
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self) -> Iterator[tuple[Image, str, str]]:
        """Yield image (RGB), prompt and answer of every row, one image at a time in memory.

        Raises:
            VitaskError: An image does not decode.
        """
        from PIL import Image

        for row, data in enumerate(self.images.items(0)):
            try:
                decoded = Image.open(io.BytesIO(prepare(data).data)).convert("RGB")
            except UnreadableImage as error:
                raise VitaskError(f"{self.images.name(row)}: {error}") from error
            yield decoded, self.prompts[row], self.answers[row]


def read_probe(path: str | Path, name: str | None = None) -> Probe:
    """Read a table with the columns ``image`` (a path, or in Parquet the encoded image), ``prompt`` and ``answer``.

    Args:
        path: CSV, TSV, JSON lines or Parquet.
        name: By default the file's.

    Raises:
        UsageError: The kind of table is unknown, or a column is missing.
        VitaskError: The table or an image is missing or damaged, or a cell is empty.

    Example:
        >>> len(read_probe("captions.jsonl"))
        500
    """
    table = read_table(path)
    there = [*table.columns, *table.image_columns]
    for column in COLUMNS:
        if column not in there:
            near = did_you_mean(column, there)
            raise UsageError(f"{table.path}: has no column '{column}'.{near} A probe has {', '.join(COLUMNS)}")
    if not table.places:
        raise VitaskError(f"{table.path}: has no rows")
    images = column_images(table, "image", table.path.parent)
    return Probe(name or table.path.stem, images, _texts(table, "prompt"), _texts(table, "answer"))


def _texts(table: Table, column: str) -> list[str]:
    texts = [cell.strip() if isinstance(cell, str) else "" for cell in table.columns[column]]
    for row, text in enumerate(texts):
        if not text:
            raise VitaskError(f"{table.places[row]}: has no text in column '{column}'")
    return texts
