"""Resident memory that stays flat while memory-mapped images stream by.

What is read of a mapped file counts as the process's memory until the kernel needs it, so that a long pass looks like a
leak, and a job may be ended for it. Here the process gives such pages back now and then; they stay in the kernel's file
cache, and reading one again costs next to nothing.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets

RELEASE_BYTES = 4 << 20
AROUND = 16 << 10
"""What the kernel maps around an image, at least; so small images count for more than their bytes."""
DONTNEED = 4  # MADV_DONTNEED, on Linux
MAPS = Path("/proc/self/maps")


def streaming_image(mode: str) -> datasets.Image:
    """Return the column type of images: decodes to ``mode``, and gives mapped pages back every few MB decoded."""
    return _streaming_type()(mode=mode)


def release_pages() -> int:
    """Give back the pages of all mapped ``.arrow`` files; returns how many files. Does nothing outside Linux."""
    if not MAPS.is_file():
        return 0
    library = ctypes.CDLL(None)
    released = 0
    for line in MAPS.read_text().splitlines():
        if line.endswith(".arrow"):
            span, rights = line.split(maxsplit=2)[:2]
            start, end = (int(address, 16) for address in span.split("-"))
            if "w" not in rights:
                library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), DONTNEED)
                released += 1
    return released


class _Meter:
    """Counts what this process decoded since it last gave pages back."""

    def __init__(self) -> None:
        self.decoded = 0

    def add(self, size: int) -> None:
        self.decoded += size + AROUND
        if self.decoded >= RELEASE_BYTES:
            self.decoded = 0
            release_pages()


METER = _Meter()


@cache
def _streaming_type() -> type[datasets.Image]:
    from datasets import Image

    class StreamingImage(Image):
        def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
            image = super().decode_example(value, token_per_repo_id)
            METER.add(len(value["bytes"] or b"") if isinstance(value, dict) else 0)
            return image

        def __reduce__(self) -> tuple[Any, ...]:
            return streaming_image, (self.mode,)

    return StreamingImage
