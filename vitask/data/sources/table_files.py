"""Reading tables of any common kind, column by column, with the place of every row for errors.

CSV and TSV (delimiter found in the header), JSON lines, Parquet; Excel with the extra ``excel``. Images inside a
Parquet file stay there until they are converted.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitask.data.images import FileImages, file_stamp
from vitask.errors import UsageError, VitaskError

DELIMITERS = ",;\t|"
BATCH_ROWS = 64


@dataclass(frozen=True)
class Table:
    """A table without the columns that hold images.

    Attributes:
        path: The file.
        columns: Values by column name; every column is as long as ``places``.
        places: Where each row stands, e.g. ``"labels.csv, line 7"``.
        image_columns: The columns whose cells are encoded images (Parquet only).
        class_names: The names that a column's numbers stand for, where the file says it (Parquet by `datasets`).
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    places: Sequence[str]
    image_columns: Sequence[str] = ()
    class_names: Mapping[str, Sequence[str]] | None = None


def read_table(path: str | Path) -> Table:
    """Read a table.

    Raises:
        UsageError: The file's kind is unknown.
        VitaskError: It is missing, damaged, has no columns, or a row does not fit the header.

    Example:
        >>> read_table("labels.csv").columns["label"][:2]
        ['normal', 'pneumonia']
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise VitaskError(f"{path}: no such file")
    reader = READERS.get(path.suffix.casefold())
    if reader is None:
        raise UsageError(f"{path}: unknown kind of table; there are {', '.join(READERS)}")
    return reader(path)


def _read_csv(path: Path) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline(), path)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            names = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise VitaskError(f"{path}: not a UTF-8 text table: {error}") from error
    _check_header(names, path)
    for line, row in rows:
        if len(row) < len(names) or any(cell.strip() for cell in row[len(names) :]):
            raise VitaskError(f"{path}, line {line}: has {len(row)} cells, but the header has {len(names)} columns")
    columns = {name: [row[i].strip() for _, row in rows] for i, name in enumerate(names) if name}
    return Table(path, columns, [f"{path}, line {line}" for line, _ in rows])


def _delimiter(header: str, path: Path) -> str:
    if path.suffix.casefold() == ".tsv":
        return "\t"
    return max(DELIMITERS, key=header.count) if any(mark in header for mark in DELIMITERS) else ","


def _check_header(names: Sequence[str], path: Path) -> None:
    named = [name for name in names if name]
    if not named:
        raise VitaskError(f"{path}: is empty; the first line must name the columns")
    twice = [name for i, name in enumerate(named) if name in named[:i]]
    if twice:
        raise VitaskError(f"{path}: the column '{twice[0]}' occurs twice")


def _read_json_lines(path: Path) -> Table:
    rows, places = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except ValueError as error:
                raise VitaskError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise VitaskError(f'{path}, line {number}: expected an object such as {{"image": ..., "label": ...}}')
            rows.append(row)
            places.append(f"{path}, line {number}")
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        raise VitaskError(f"{path}: has no rows")
    return Table(path, {name: [row.get(name) for row in rows] for name in names}, places)


def _read_parquet(path: Path) -> Table:
    from datasets import ClassLabel, Features, Image
    from pyarrow import types

    with _open_parquet(path) as file:
        schema = file.schema_arrow
        images = [
            entry.name
            for entry in schema
            if types.is_binary(entry.type)
            or types.is_large_binary(entry.type)
            or (types.is_struct(entry.type) and entry.type.get_field_index("bytes") >= 0)
        ]
        columns = ParquetColumns(path, [name for name in schema.names if name not in images])
        rows = file.metadata.num_rows
    features = Features.from_arrow_schema(schema)
    images += [name for name, kind in features.items() if isinstance(kind, Image) and name not in images]
    kinds = {name: getattr(kind, "feature", kind) for name, kind in features.items()}
    class_names = {name: kind.names for name, kind in kinds.items() if isinstance(kind, ClassLabel)}
    return Table(path, columns, [f"{path}, row {row}" for row in range(1, rows + 1)], images, class_names)


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    """Open a file for a block; what is damaged further in shows while it is read."""
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "filename", None) is not None:  # another file, named in the table
            raise
        raise VitaskError(f"{path}: not a complete Parquet file: {' '.join(str(error).split())}") from error


def _read_excel(path: Path) -> Table:
    """Read the first sheet; numbers become text, whole ones without a fraction, and empty rows are left out."""
    read = _xls_rows if path.suffix.casefold() == ".xls" else _xlsx_rows
    try:
        rows = [[_cell(value) for value in row] for row in read(path)]
    except ImportError as error:
        raise UsageError(f"{path}: reading Excel files needs 'pip install vitask[excel]'; or save it as CSV") from error
    except Exception as error:  # each of the readers has errors of its own
        raise VitaskError(f"{path}: not an Excel file: {' '.join(str(error).split())}") from error
    names, *body = rows or [[]]
    _check_header(names, path)
    filled = [(number, row) for number, row in enumerate(body, 2) if any(row)]
    columns = {name: [row[i] for _, row in filled] for i, name in enumerate(names) if name}
    return Table(path, columns, [f"{path}, row {number}" for number, _ in filled])


def _xls_rows(path: Path) -> list[Sequence[Any]]:
    import xlrd

    sheet = xlrd.open_workbook(str(path)).sheet_by_index(0)
    return [sheet.row_values(row) for row in range(sheet.nrows)]


def _xlsx_rows(path: Path) -> list[Sequence[Any]]:
    from openpyxl import load_workbook

    return list(load_workbook(path, data_only=True).worksheets[0].iter_rows(values_only=True))


def _cell(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
    ".xls": _read_excel,
    ".xlsx": _read_excel,
}


class ParquetColumns(Mapping[str, Sequence[Any]]):
    """Columns of a Parquet file, each read when it is asked for."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.names = names

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.names:
            raise KeyError(name)
        with _open_parquet(self.path) as file:
            return file.read(columns=[name]).column(0).to_pylist()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class ParquetImages:
    """The encoded images of a column of a Parquet file, read a few rows at a time.

    Args:
        table: The table.
        column: Bytes, or `datasets`' struct of bytes and path.
        root: What paths in that struct are relative to.
    """

    def __init__(self, table: Table, column: str, root: Path) -> None:
        self.table = table
        self.column = column
        self.root = root

    def __len__(self) -> int:
        return len(self.table.places)

    def name(self, row: int) -> str:
        """Name file and row."""
        return self.table.places[row]

    def stamp(self) -> str:
        """Digest place, size and time of change of the file, and of those that its cells name; and the column."""
        named = list(self._named())
        others = FileImages([path for _, path in named], [self.name(row) for row, _ in named]).stamp()
        return f"{file_stamp(self.table.path)} {self.column} {others}"

    def items(self, start: int) -> Iterator[bytes]:
        """Yield the cells' bytes; a row group is read at a time."""
        with _open_parquet(self.table.path) as file:
            row = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=[self.column]):
                for cell in batch.column(0)[max(0, start - row) :]:
                    yield self._bytes(cell.as_py())
                row += len(batch)

    def _named(self) -> Iterator[tuple[int, Path]]:
        """Yield the rows whose image is a file beside the table; row groups that hold all their bytes are not read."""
        with _open_parquet(self.table.path) as file:
            start = 0
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                if _may_lack_bytes(group, self.column):
                    row = start
                    for batch in file.iter_batches(BATCH_ROWS, row_groups=[number], columns=[self.column]):
                        cells = enumerate(batch.column(0).to_pylist(), row)
                        yield from ((at, self.root / cell["path"]) for at, cell in cells if _is_named(cell))
                        row += len(batch)
                start += group.num_rows

    def _bytes(self, cell: Any) -> bytes:
        if isinstance(cell, dict):
            cell = (self.root / cell["path"]).read_bytes() if _is_named(cell) else cell.get("bytes")
        return cell or b""  # nothing there: refused like any image that does not decode


def _is_named(cell: Any) -> bool:
    """Whether a cell is `datasets`' struct of bytes and path, and holds the path alone."""
    return isinstance(cell, dict) and cell.get("bytes") is None and bool(cell.get("path"))


def _may_lack_bytes(group: Any, column: str) -> bool:
    """Whether a row group has structs in a column, and some of them no bytes, as far as its statistics say."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    found = [chunk.statistics for chunk in chunks if chunk.path_in_schema == f"{column}.bytes"]
    return any(each is None or not each.has_null_count or each.null_count > 0 for each in found)
