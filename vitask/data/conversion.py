"""One-time conversion of images to Arrow: checked, hashed, memory-mapped from then on.

A folder holds shards of 1,024 rows and, written last, ``done.json``. A killed conversion goes on behind its last whole
shard; of two processes that ask at once, one converts and the other waits; memory holds a few images at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.data.images import ImageSource, Prepared, UnreadableImage, prepare
from vitask.data.pages import release_pages, streaming_image
from vitask.data.sources.progress import with_progress
from vitask.errors import VitaskError
from vitask.files import atomic_write, checksum, remove_leftovers

if TYPE_CHECKING:
    import datasets
    from numpy.typing import NDArray

FORMAT = 4
SHARD_ROWS = 1024
FLUSH_BYTES = 8 << 20
DONE = "done.json"
SHARDS = "[0-9]*.arrow"  # `datasets` may put caches of its own beside them


@dataclass(frozen=True)
class Converted:
    """The images of a source, in its order, without those that were skipped.

    Attributes:
        dataset: Columns ``id`` (str) and ``image`` (decodes to a PIL image).
        rows: For each row of the dataset, its row in the source, ``(N,)``.
        content: Digest of all that was read.
        pixels: Digest of each image's decoded pixels, ``(N,)`` of bytes.
        sizes: Width and height of each image as stored, ``(N, 2)``.
        skipped: Rows of the source that were left out, because their images do not decode.
    """

    dataset: datasets.Dataset
    rows: NDArray[np.integer]
    content: str
    pixels: NDArray[np.bytes_]
    sizes: NDArray[np.integer]
    skipped: list[int]


def convert(
    images: ImageSource,
    ids: Sequence[str],
    *,
    cache_dir: str | Path | None = None,
    name: str = "images",
    size: int | None = None,
    skip_corrupt: bool = False,
) -> Converted:
    """Return the images of a source from the cache, which is written first when it is not there.

    Args:
        images: The source.
        ids: An id for each of its rows.
        cache_dir: Where the cache is; by default ``vitask`` in the cache folder of ``datasets``.
        name: Begins the name of the folder in the cache.
        size: Shrink images so that their shorter side is this; None keeps them as they are.
        skip_corrupt: Leave out images that do not decode, instead of raising.

    Raises:
        VitaskError: An image does not decode, every image was left out, or the source changed meanwhile.

    Example:
        >>> convert(FileImages(paths), ids, cache_dir="~/.cache/vitask").dataset[0]["image"].size
        (640, 480)
    """
    job = _Job(images, size, skip_corrupt, name)
    key = job.key()
    folder = cache_folder(cache_dir) / "-".join([re.sub(r"[^\w.-]+", "-", name), key])
    if not _is_complete(folder):
        _build(folder, job)
        if job.key() != key:
            raise VitaskError(f"{name}: the images changed while they were converted; run the command again")
    return _open(folder, ids, name)


@dataclass(frozen=True)
class _Job:
    """What is converted, and how."""

    images: ImageSource
    size: int | None
    skip_corrupt: bool
    title: str

    def key(self) -> str:
        """Return a digest of all that the converted images depend on."""
        identity = json.dumps([FORMAT, self.images.stamp(), len(self.images), self.size, self.skip_corrupt])
        return hashlib.sha256(identity.encode()).hexdigest()[:32]


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Return where converted data goes."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    from datasets.config import HF_DATASETS_CACHE

    return Path(HF_DATASETS_CACHE) / "vitask"


def _is_complete(folder: Path) -> bool:
    """Whether the conversion came to its end and every shard still is what it was then."""
    try:
        shards = json.loads((folder / DONE).read_text())["shards"]
        return all(checksum(folder / name) == known for name, known in shards.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _build(folder: Path, job: _Job) -> None:
    """Write what is missing of a conversion, alone: the lock ends with the process that holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(Path(f"{folder}.lock"), job.title):
        if _is_complete(folder):
            return
        if (folder / DONE).exists():
            print(
                f"{folder}: damaged since it was written; {job.title} is converted again", file=sys.stderr, flush=True
            )
            for path in [folder / DONE, *folder.glob(SHARDS)]:
                path.unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        remove_leftovers(folder, "*")
        _write_shards(folder, job)
        shards = {path.name: checksum(path) for path in sorted(folder.glob(SHARDS))}
        atomic_write(folder / DONE, lambda path: path.write_text(json.dumps({"format": FORMAT, "shards": shards})))


@contextmanager
def _alone(path: Path, title: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that converts {title}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write_shards(folder: Path, job: _Job) -> None:
    """Write the shards behind those that are there, each all or nothing."""
    written = len(list(folder.glob(SHARDS)))
    start = written * SHARD_ROWS
    total = len(job.images)
    rows = iter(with_progress(enumerate(_prepared(job, start), start), total - start, f"converting {job.title}"))
    for number in range(written, -(-total // SHARD_ROWS)):
        shard = islice(rows, SHARD_ROWS)
        try:
            atomic_write(folder / f"{number:05d}.arrow", lambda path, shard=shard: _write_shard(path, shard))
        except OSError as error:
            if error.filename is not None:
                raise
            raise VitaskError(f"{folder}: cannot write converted images: {error}") from error


def _prepared(job: _Job, start: int) -> Iterator[Prepared | None]:
    """Yield checked images in order, a few at a time in several threads; None for one that is skipped."""
    threads = min(8, os.cpu_count() or 1)
    numbered = enumerate(job.images.items(start), start)

    def check(item: tuple[int, bytes | np.ndarray]) -> Prepared | None:
        row, image = item
        try:
            return prepare(image, job.size)
        except UnreadableImage as error:
            if job.skip_corrupt:
                return None
            raise UnreadableImage(f"{job.images.name(row)}: {error}") from error

    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(numbered, 2 * threads)):
            yield from pool.map(check, batch)


def _write_shard(path: Path, rows: Iterator[tuple[int, Prepared | None]]) -> None:
    from datasets.arrow_writer import ArrowWriter

    with ArrowWriter(path=str(path), features=_features(), writer_batch_size=SHARD_ROWS) as writer:
        held = 0
        for row, image in rows:
            if image is None:
                continue
            writer.write(_example(row, image))
            held += len(image.data)
            if held > FLUSH_BYTES:
                writer.write_examples_on_file()
                held = 0
        writer.finalize()


def _example(row: int, image: Prepared) -> dict[str, Any]:
    values = {"row": row, "image": {"bytes": image.data, "path": None}, "content": image.content}
    return {**values, "pixels": image.pixels, "width": image.width, "height": image.height, "mode": image.mode}


def _features() -> datasets.Features:
    from datasets import Features, Image, Value

    texts = {name: Value("string") for name in ("content", "pixels", "mode")}
    numbers = {name: Value("int64") for name in ("row", "width", "height")}
    return Features({**texts, **numbers, "image": Image()})


def _open(folder: Path, ids: Sequence[str], name: str) -> Converted:
    """Open the shards; ids stand in memory, so that reading them touches no page between the images."""
    from datasets import Dataset, concatenate_datasets

    shards = [Dataset.from_file(str(path)) for path in sorted(folder.glob(SHARDS))]
    shards = [shard for shard in shards if len(shard)]
    if not shards:
        raise VitaskError(f"{name}: none of the {len(ids)} images can be read")
    found, content = [], hashlib.sha256()
    for shard in shards:
        content.update("".join(shard["content"][:]).encode())
        columns = {key: np.array(shard[key][:]) for key in ("row", "pixels", "width", "height", "mode")}
        found.append({**columns, "pixels": columns["pixels"].astype(bytes)})
        release_pages()
    columns = {key: np.concatenate([part[key] for part in found]) for key in found[0]}
    mode = "L" if set(np.unique(columns["mode"])) <= {"L", "1"} else "RGB"
    whole = concatenate_datasets(shards).select_columns(["image"]).cast_column("image", streaming_image(mode))
    whole = whole.add_column("id", [ids[row] for row in columns["row"]])
    return Converted(
        whole.select_columns(["id", "image"]),
        columns["row"],
        content.hexdigest(),
        columns["pixels"],
        np.stack([columns["width"], columns["height"]], axis=1),
        np.setdiff1d(np.arange(len(ids)), columns["row"]).tolist(),
    )
