"""Files that appear whole or not at all, and safetensors files too large for memory.

safetensors has no writer that appends; so the header, which is known beforehand, is written here, then the tensors
piece by piece, then the sha256 of all that as one more tensor, by which a damaged file is noticed.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]

DTYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16", "torch.int64": "I64"}
DIGEST, DIGEST_BYTES = "sha256", 32
READ_BYTES = 1 << 20
SAMPLED = 4096
"""Values of each tensor that `sampled_digest` looks at."""


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and put it in place in one step.

    Example:
        >>> atomic_write(Path("labels.txt"), lambda temporary: temporary.write_text("normal"))
    """
    atomic_writes({path: write})


def atomic_writes(writes: Mapping[Path, Callable[[Path], Any]]) -> None:
    """Do as `atomic_write` for files that belong together: the first is put in place when all are on the disk.

    Example:
        >>> atomic_writes({Path("a.csv"): lambda path: path.write_text("1"), Path("b.csv"): lambda path: path.touch()})
    """
    temporary = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp") for path in writes}
    try:
        for path, write in writes.items():
            with written(path):
                write(temporary[path])
                share(temporary[path])
                flush(temporary[path])
        for path, whole in temporary.items():
            with written(path):
                whole.replace(path)
    finally:
        for left in temporary.values():
            left.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; if the block ends well, flush it and put it in the place of `path`.

    Example:
        >>> with atomic_folder(Path("model")) as folder:
        ...     (folder / "labels.txt").write_text("normal")
    """
    temporary, earlier = (path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp") for _ in range(2))
    temporary.mkdir(parents=True)
    try:
        with written(path):
            yield temporary
            for inside in temporary.rglob("*"):
                share(inside)
                flush(inside)
        try:
            if path.exists():
                path.rename(earlier)
            temporary.rename(path)
        except BaseException:
            if earlier.exists() and not path.exists():
                earlier.rename(path)
            raise
    finally:
        for folder in (temporary, earlier):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Let an error in writing be an `OSError` with a file: the system's may lack one, safetensors raises its own.

    Example:
        >>> with written(Path("model")):
        ...     save_file(tensors, "model/weights.safetensors")
    """
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from error
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    r"""Write rows as CSV whose lines end in ``\n``; a cell with any line end in it is quoted.

    Python's writer quotes those of its own line end alone, and a reader takes a bare ``\r`` for the end of a row.

    Example:
        >>> csv_text([["id", "text"], [1, "a\rb"]])
        'id,text\n1,"a\rb"\n'
    """
    lines = []
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def finite(value: Any) -> Any:
    """Return values as JSON can hold them: it has no NaN and no infinity, so they become None.

    Example:
        >>> finite({"loss": [0.5, float("nan")]})
        {'loss': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def share(path: Path) -> None:
    """Let those read a new file whom the umask lets read any other; safetensors makes its own for the owner alone."""
    if path.is_file():
        mask = os.umask(0o077)
        os.umask(mask)
        path.chmod(0o666 & ~mask)


def flush(path: Path) -> None:
    """Let the system write a file, or the names in a folder, to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, name: str) -> None:
    """Remove what killed processes left of files and folders whose name fits a pattern; nobody may write them now."""
    for temporary in folder.glob(f".{name}.*.tmp"):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_tensors(path: Path, layout: Layout, pieces: Iterable[Tensor]) -> None:
    """Write a safetensors file of the tensors of `layout`, and the sha256 of the file so far as a further tensor.

    Args:
        path: the file; wrap the call in `atomic_write`.
        layout: dtype and shape of each tensor by name, in the order of the file. The widest dtype comes first, so that
            every tensor is aligned.
        pieces: the tensors' rows in that order; each piece is some rows of one tensor, `(rows, ...)`.

    Raises:
        ValueError: the pieces do not add up to the layout.

    Example:
        >>> write_tensors(path, {"x": (torch.float32, (5, 2))}, [torch.zeros(3, 2), torch.ones(2, 2)])
        >>> read_tensors(path)["x"].shape
        torch.Size([5, 2])
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for data in _contents(layout, iter(pieces)):
            file.write(data)
            digest.update(data)
        file.write(digest.digest())


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """Check and open what `write_tensors` wrote: memory-mapped tensors by name, or None when the file is damaged.

    The check reads the file once, but keeps nothing in memory.

    Raises:
        FileNotFoundError: when there is none.
    """
    return map_tensors(path) if _is_sound(path) else None


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Open what was just written, without the check; the file may be removed while the tensors are in use."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name != DIGEST}  # noqa: SIM118


def file_size(layout: Layout) -> int:
    """Return the bytes of the file that `write_tensors` writes."""
    return len(_header(layout)) + sum(map(_num_bytes, layout.values())) + DIGEST_BYTES


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file: damage is to be noticed, not an attacker."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            total = zlib.crc32(block, total)
    return total


def sampled_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a sha256 over names, dtypes, shapes and evenly spaced values: of billions of weights in a moment.

    Weights that were trained or replaced differ everywhere, so a sample tells them apart.

    Example:
        >>> sampled_digest(dict(model.named_parameters()))
        '0b9c2f67a2d1c7d4...'
    """
    sampled = {
        f"{name} {tuple(value.shape)}": value.detach().flatten()[:: max(1, value.numel() // SAMPLED)]
        for name, value in tensors.items()
    }
    return tensors_digest(sampled)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes of tensors, whatever their order and device.

    Example:
        >>> tensors_digest(model.state_dict())
        '61d6b6bf43ae0d0e...'
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(_raw(value))
    return digest.hexdigest()


def _contents(layout: Layout, pieces: Iterator[Tensor]) -> Iterator[bytes | np.ndarray]:
    """Yield what stands before the digest, checking each piece."""
    yield _header(layout)
    for name, (dtype, shape) in layout.items():
        missing = shape[0]
        while missing:
            piece = next(pieces, None)
            if piece is None:
                raise ValueError(f"'{name}' lacks {missing} of {shape[0]} rows")
            if piece.dtype != dtype or piece.shape[1:] != shape[1:] or len(piece) > missing:
                found = f"{piece.dtype} {tuple(piece.shape)}"
                raise ValueError(f"'{name}' is {dtype} {shape} and lacks {missing} rows, but gets a piece {found}")
            missing -= len(piece)
            yield _raw(piece)
    if surplus := sum(map(len, pieces)):
        raise ValueError(f"the pieces hold {surplus} rows more than the layout")


def _header(layout: Layout) -> bytes:
    """Return the safetensors header: its length in 8 bytes, then the JSON, padded so that the data is aligned."""
    entries, start = {}, 0
    for name, (dtype, shape) in layout.items():
        end = start + _num_bytes((dtype, shape))
        entries[name] = {"dtype": DTYPES[str(dtype)], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    entries[DIGEST] = {"dtype": "U8", "shape": [DIGEST_BYTES], "data_offsets": [start, start + DIGEST_BYTES]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _num_bytes(entry: tuple[torch.dtype, tuple[int, ...]]) -> int:
    dtype, shape = entry
    return dtype.itemsize * math.prod(shape)


def _raw(tensor: Tensor) -> np.ndarray:
    """Return a tensor's bytes, without a copy if it is contiguous and on the CPU."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _is_sound(path: Path) -> bool:
    """Say whether the file ends with the sha256 of everything before."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - DIGEST_BYTES
        while left > 0 and (data := file.read(min(left, READ_BYTES))):
            digest.update(data)
            left -= len(data)
        return file.read() == digest.digest()
