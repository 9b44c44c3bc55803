"""One image on its way into the cache: read, decoded once to check it, hashed, and shrunk if asked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vitask.errors import VitaskError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


class UnreadableImage(VitaskError):
    """An image that does not decode, or that this package refuses; ``data.corrupt=skip`` leaves such images out."""


class ImageSource(Protocol):
    """Images by row, before they are checked: files, columns of a table, arrays of an archive."""

    def __len__(self) -> int: ...

    def stamp(self) -> str:
        """Return a text that changes when the images may have changed, without reading them."""
        ...

    def name(self, row: int) -> str:
        """Say which image a row is, for errors: file and row."""
        ...

    def items(self, start: int) -> Iterator[bytes | np.ndarray]:
        """Yield the images from row ``start`` on: encoded, or uint8 pixels ``(H, W)`` or ``(H, W, 3)``."""
        ...


@dataclass(frozen=True)
class Prepared:
    """An image as it goes into the cache.

    Attributes:
        data: Encoded bytes.
        content: Digest of what the source holds: the file's bytes, or the array.
        pixels: Digest of the decoded pixels, whatever the file's format.
        width: Pixels across, as stored.
        height: Pixels down, as stored.
        mode: Pillow's colour mode.
    """

    data: bytes
    content: str
    pixels: str
    width: int
    height: int
    mode: str


class FileImages:
    """Images that are files.

    Args:
        paths: The file of each row.
        places: Where each row stands, e.g. ``"labels.csv, line 7"``; without it the file alone is named.
    """

    def __init__(self, paths: Sequence[Path], places: Sequence[str] | None = None) -> None:
        self.paths = paths
        self.places = places

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """Name the table's line, if there is one, and the file."""
        return f"{self.places[row]}: {self.paths[row]}" if self.places else str(self.paths[row])

    def stamp(self) -> str:
        """Digest path, size and time of change of every file.

        Raises:
            VitaskError: A file is missing.
        """
        digest = hashlib.sha256()
        missing = [row for row, path in enumerate(self.paths) if not _add_stat(digest, path)]
        if missing:
            more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise VitaskError(f"{self.name(missing[0])}: no such image{more}")
        return digest.hexdigest()

    def items(self, start: int) -> Iterator[bytes]:
        """Yield the files' bytes."""
        for path in self.paths[start:]:
            yield path.read_bytes()


def file_stamp(path: Path) -> str:
    """Return a digest of a file's place, size and time of change."""
    digest = hashlib.sha256()
    if not _add_stat(digest, path):
        raise VitaskError(f"{path}: no such file")
    return digest.hexdigest()


def prepare(image: bytes | np.ndarray, size: int | None = None) -> Prepared:
    """Decode and hash an image; shrink it so that its shorter side is ``size``, and never enlarge it.

    An encoded image that is not shrunk keeps its bytes; anything else is stored as PNG.

    Raises:
        UnreadableImage: It does not decode, or has more than 8 bits a channel; the message says what, not where.

    Example:
        >>> prepare(Path("scan.jpg").read_bytes(), size=224).height
        224
    """
    from PIL import Image, ImageOps

    if not isinstance(image, bytes):
        pixels = Image.fromarray(image)
        digest = _digest(image.tobytes())
        return _stored(_png(pixels), digest, _digest(_identity(pixels) + image.tobytes()), pixels)
    if not image:
        raise UnreadableImage("cannot read this image (it is empty)")
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
            decoded = ImageOps.exif_transpose(opened)
    except Exception as error:  # Pillow raises whatever its decoders meet in a damaged file
        raise UnreadableImage(f"cannot read this image ({' '.join(str(error).split())})") from error
    _check_depth(decoded)
    pixels_digest = _digest(_identity(decoded) + decoded.tobytes())
    if size is None or min(decoded.size) <= size:
        return _stored(image, _digest(image), pixels_digest, decoded)
    plain = decoded if decoded.mode in ("L", "RGB") else decoded.convert("L" if decoded.mode == "1" else "RGB")
    small = shrunk(plain, size)
    return _stored(_png(small), _digest(image), pixels_digest, small)


def shrunk(image: Image, size: int | None) -> Image:
    """Return an image in L or RGB, shrunk so that its shorter side is at most this long; none: as it is."""
    from PIL.Image import Resampling

    shorter = min(image.size)
    if size is None or shorter <= size:
        return image
    return image.resize([max(1, round(side * size / shorter)) for side in image.size], Resampling.LANCZOS)


def upright_rgb(image: Image) -> Image:
    """Return an image of no data set as those of a data set reach a model: turned as its EXIF says, in RGB.

    Raises:
        UnreadableImage: It does not decode, has no pixel, or more than 8 bits a channel; the message says what, not
            where.

    Example:
        >>> upright_rgb(Image.open("photo.jpg")).mode
        'RGB'
    """
    from PIL import ImageOps

    try:
        decoded = ImageOps.exif_transpose(image)
        decoded.load()
    except Exception as error:  # Pillow raises whatever its decoders meet in a damaged file
        raise UnreadableImage(f"cannot be read as an image ({' '.join(str(error).split())})") from error
    if 0 in decoded.size:
        raise UnreadableImage(f"has no pixels (size {decoded.width} x {decoded.height})")
    _check_depth(decoded)
    return decoded.convert("RGB")


def _check_depth(image: Image) -> None:
    if image.mode[0] in "IF":
        raise UnreadableImage(f"has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits first")


def _stored(data: bytes, content: str, pixels: str, image) -> Prepared:
    return Prepared(data, content, pixels, *image.size, image.mode)


def _png(image) -> bytes:
    png = io.BytesIO()
    image.save(png, format="PNG", compress_level=1)
    return png.getvalue()


def _identity(image) -> bytes:
    """What tells images of the same pixel bytes apart: colour mode, size, palette."""
    palette = image.getpalette() if image.mode == "P" else None
    return f"{image.mode} {image.size} {palette};".encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _add_stat(digest, path: Path) -> bool:
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    digest.update(f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return True
