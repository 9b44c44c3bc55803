"""Files of which cases are made, and the beginnings of their command lines."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

TABLE = "data | inspect | data=table | data.path={tmp}/t.csv | cache={cache} | out={out}"
FOLDER = "data | inspect | data=image_folder | data.root={tmp}/photos | cache={cache} | out={out}"
TRAIN = (
    "train | out={out} | cache={cache} | launch.device=cpu | data.train_fraction=0.1 | optim.epochs=1 | "
    "tsm.optim.epochs=1 | "
)
VECTORS = TRAIN + "stage=ep | exemplar.table={tmp}/"


def png(width: int, height: int) -> bytes:
    """A PNG whose header promises a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def table(*rows: tuple[str, ...]) -> str:
    """A CSV of images and labels."""
    out = io.StringIO()
    csv.writer(out).writerows([("image", "label"), *rows])
    return out.getvalue()


def photos(spoilt: bytes) -> Callable[[Path], None]:
    """Ten photos of two classes, of which the first is not one."""

    def spoil(folder: Path) -> None:
        for number in range(10):
            path = folder / f"photos/{'ab'[number % 2]}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
        (folder / "photos/a/0.png").write_bytes(spoilt)

    return spoil


def arrays(name: str, **content: np.ndarray) -> Callable[[Path], None]:
    """An npz archive."""
    return lambda folder: np.savez(folder / name, **content)


def parquet(name: str, **columns: list) -> Callable[[Path], None]:
    """A Parquet file."""

    def spoil(folder: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet as pq

        pq.write_table(pa.table(columns), folder / name)

    return spoil


def empty(name: str) -> Callable[[Path], None]:
    """A folder with nothing in it."""
    return lambda folder: (folder / name).mkdir(parents=True)
