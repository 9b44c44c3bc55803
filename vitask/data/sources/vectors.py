"""A table of sample ids and vectors: what somebody else's model says of each image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.data.records import check_unique
from vitask.data.sources.npz import read_array
from vitask.data.sources.table_files import READERS, read_table
from vitask.errors import UsageError, VitaskError, did_you_mean

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    Rows = tuple[list[str], Sequence[str], NDArray[np.float32]]

ID, VECTOR = "id", "vector"
KINDS = (*READERS, ".npz")


@dataclass(frozen=True)
class Vectors:
    """Vectors by name.

    Attributes:
        path: The file.
        ids: Names, all different.
        values: One or several vectors a name, ``(N, K, D)`` float32, all finite.
    """

    path: Path
    ids: Sequence[str]
    values: NDArray[np.float32]


def read_vectors(path: str | Path) -> Vectors:
    """Read a table with the columns ``id`` and ``vector``, or an ``.npz`` archive of these two arrays.

    A vector is a list of D numbers, or K such lists; in CSV and Excel files it is written as JSON.

    Raises:
        UsageError: The file's kind is unknown, or a column is missing.
        VitaskError: It is missing or damaged, an id is empty or occurs twice, or a vector is no list of numbers, has
            another shape than the first, or holds a value that is not finite.

    Example:
        >>> read_vectors("dino.parquet").values.shape
        (719, 1, 768)
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise VitaskError(f"{path}: no such file")
    if path.suffix.casefold() not in KINDS:
        raise UsageError(f"{path}: unknown kind of table of vectors; there are {', '.join(KINDS)}")
    ids, places, values = (_read_npz if path.suffix.casefold() == ".npz" else _read_rows)(path)
    for name, place in zip(ids, places, strict=True):
        if not name:
            raise VitaskError(f"{place}: the id is empty")
    check_unique(ids, places)
    values = values[:, None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1] < 1 or values.shape[2] < 2:
        raise VitaskError(
            f"{path}: vectors of shape {values.shape[1:]}; a vector is a list of at least two numbers, or several such "
            "lists of one length"
        )
    finite = np.isfinite(values).all(axis=(1, 2))
    if not finite.all():
        raise VitaskError(f"{places[int(finite.argmin())]}: the vector holds a value that is not finite in float32")
    return Vectors(path, ids, values)


def vectors_digest(path: str | Path) -> str:
    """Return the sha256 of a file; it is read again when it has changed.

    Raises:
        VitaskError: There is no such file.
    """
    path = Path(path).expanduser()
    try:
        stat = path.stat()
    except OSError as error:
        raise VitaskError(f"{path}: no such file") from error
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _file_digest(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _read_npz(path: Path) -> Rows:
    ids, values = read_array(path, ID), read_array(path, VECTOR)
    if ids.ndim != 1 or len(ids) != len(values):
        raise VitaskError(f"{path}: 'id' has shape {ids.shape} and 'vector' {values.shape}; both need a row a sample")
    if values.dtype.kind not in "fiu" or not values.size:
        raise VitaskError(f"{path}: 'vector' holds no numbers ({values.dtype}, shape {values.shape})")
    return [_name(each) for each in ids], [f"{path}, row {row}" for row in range(1, len(ids) + 1)], _narrow(values)


def _read_rows(path: Path) -> Rows:
    table = read_table(path)
    for column in (ID, VECTOR):
        if column not in table.columns:
            known = [*table.columns, *table.image_columns]
            near = did_you_mean(column, known)
            raise UsageError(f"{path}: has no column '{column}' of text or lists.{near} There are {', '.join(known)}")
    if not table.places:
        raise VitaskError(f"{path}: has no rows")
    read = READ_VECTORS.get(path.suffix.casefold(), _from_cells)
    return [_name(each) for each in table.columns[ID]], table.places, read(path, table.columns, table.places)


def _from_parquet(path: Path, columns: Mapping[str, Any], places: Sequence[str]) -> NDArray[np.float32]:
    """Read the column as Arrow has it: lists of Python numbers would take ten times the memory."""
    from pyarrow import parquet

    column = parquet.read_table(path, columns=[VECTOR]).column(VECTOR).combine_chunks()
    return _stack(getattr(column, "storage", column), places)


def _from_cells(path: Path, columns: Mapping[str, Any], places: Sequence[str]) -> NDArray[np.float32]:
    """Read a column of lists, or of JSON texts of such."""
    import pyarrow

    cells = [_parsed(cell, place) for cell, place in zip(columns[VECTOR], places, strict=True)]
    try:
        return _stack(pyarrow.array(cells), places)
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())
        raise VitaskError(f"{path}: the vectors are not all lists of numbers: {reason}") from error


READ_VECTORS: dict[str, Callable[..., NDArray[np.float32]]] = {".parquet": _from_parquet}
"""How the vectors of a kind of table are read, where it is not cell by cell."""


def _parsed(cell: Any, place: str) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell)
    except ValueError as error:
        raise VitaskError(f"{place}: the vector is not a JSON list such as [0.1, -2.5]: {error}") from error


def _stack(array: pyarrow.Array, places: Sequence[str]) -> NDArray[np.float32]:
    """Turn lists of numbers, or of such lists, into one array, all rows of one shape."""
    from pyarrow import types

    shape = [len(array)]
    while types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type):
        lengths = array.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
        for wrong, what in ((lengths < 0, "has no vector"), (lengths != lengths[:1], "has a vector of another shape")):
            if wrong.any():
                row = int(wrong.argmax()) * len(places) // len(lengths)
                raise VitaskError(f"{places[row]}: {what}; every row needs one, and all of one shape")
        shape.append(int(lengths[0]) if len(lengths) else 0)
        array = array.flatten()
    if len(shape) == 1 or not (types.is_floating(array.type) or types.is_integer(array.type)):
        raise VitaskError(f"{places[0]}: the column '{VECTOR}' holds {array.type}, not lists of numbers")
    numbers = array.cast("float32", safe=False).fill_null(np.nan)
    return numbers.to_numpy(zero_copy_only=False).reshape(shape)


def _narrow(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _name(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
