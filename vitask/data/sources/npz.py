"""Reading ``.npz`` archives row by row: memory stays flat, pickles are refused, and every error names the file."""

from __future__ import annotations

import errno
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from vitask.errors import VitaskError

DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, SyntaxError, EOFError),
    *(ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError, NotImplementedError, RuntimeError),
)
"""What zipfile and NumPy raise for bytes that are no archive of arrays, compressed in another way, or encrypted."""


def array_header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype of an array in the archive without reading it.

    Raises:
        VitaskError: The file is no complete zip, lacks ``key``, or holds pickled objects under it.
    """
    with _member(path, key) as (_, shape, dtype):
        return shape, dtype


def read_array(path: Path, key: str) -> np.ndarray:
    """Read a whole (small) array. Raises as `array_header`."""
    with _member(path, key) as (stream, shape, dtype):
        return np.frombuffer(_read(stream, prod(shape) * dtype.itemsize), dtype).reshape(shape)


def stream_rows(path: Path, key: str) -> Iterator[np.ndarray]:
    """Yield the rows of an array along its first axis, one at a time in memory. Raises as `array_header`."""
    with _member(path, key) as (stream, shape, dtype):
        size = prod(shape[1:]) * dtype.itemsize
        for _ in range(shape[0]):
            yield np.frombuffer(_read(stream, size), dtype).reshape(shape[1:])


@contextmanager
def _member(path: Path, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{key}.npy" not in archive.namelist():
                held = ", ".join(name.removesuffix(".npy") for name in archive.namelist())
                raise VitaskError(f"{path}: has no array '{key}'; it holds {held or 'nothing'}")
            with archive.open(f"{key}.npy") as stream:
                yield stream, *_header(stream, path, key)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise VitaskError(f"{path}: not a complete .npz file ({error}); delete it and get it again") from error


def _header(stream: IO[bytes], path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(stream)
    if dtype.hasobject:
        raise VitaskError(
            f"{path}: '{key}' holds pickled Python objects, which can run any code when loaded: refused; "
            "save plain numeric arrays"
        )
    if fortran_order and len(shape) > 1:
        raise VitaskError(f"{path}: '{key}' is in Fortran order; save numpy.ascontiguousarray of it")
    return shape, dtype


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("an array ends early")
    return data
