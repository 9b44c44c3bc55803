"""Exemplars of a whole split, computed once and kept on disk under a key that holds everything they depend on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import timm
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitask.errors import UsageError
from vitask.files import atomic_write
from vitask.tsm.exemplar_file import ExemplarTable, read_exemplars, write_exemplars
from vitask.tsm.model import TSM
from vitask.tsm.saving import weights_digest
from vitask.tsm.transforms import describe_transform

FORMAT_VERSION = 1
BAR_FROM = 1000

Transform = Callable[[Image.Image], Tensor]


def cached_exemplars(
    tsm: TSM,
    images: Sequence[Image.Image],
    *,
    kind: str,
    transform: Transform,
    data_fingerprint: str,
    cache_dir: str | Path,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    workers: int = 0,
    progress: bool = True,
) -> ExemplarTable:
    """Return the TSM's features and logits of every image, from `cache_dir` when they were computed before.

    The key covers the TSM (weights, architecture, input settings, timm's version), the images, the transform, the kind
    and the file format; a change of any gives another file, so nothing stale is served. A damaged file is recomputed.

    Args:
        tsm: the model; computed in evaluation mode, its mode is put back afterwards.
        images: PIL images by index.
        kind: `cls` (EP_cls) or `patches` (EP_all), paper, section 2.
        transform: from image to pixels; it must not be random.
        data_fingerprint: what identifies `images`, the split's name included.
        cache_dir: folder of the cache, made when absent.
        batch_size: images in one forward pass.
        device: where the model runs; it is moved there when something has to be computed.
        workers: processes that read and transform images.
        progress: show a bar when there are more than 1000 images.

    Returns:
        An `ExemplarTable`: `features[i]` is `(K, D)`, `logits[i]` is `(num_classes,)`, float32, memory-mapped.

    Raises:
        UsageError: for an unknown kind, or no images.

    Example:
        >>> table = cached_exemplars(tsm, images, kind="cls", transform=build_transform(tsm.data_config, None, False),
        ...                          data_fingerprint="pneumonia-28/train", cache_dir="~/.cache/vitask")
        >>> table.features[0].shape
        torch.Size([1, 96])
    """
    if not len(images):
        raise UsageError(f"no images to compute exemplars of (data: {data_fingerprint})")
    features = (len(images), tsm.num_tokens(kind), tsm.feature_dim(kind))
    key = exemplar_key(tsm, kind=kind, transform=transform, data_fingerprint=data_fingerprint, num_images=len(images))
    folder = Path(cache_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"exemplars-{key}.safetensors"
    table = read_exemplars(path) if path.exists() else None
    if table is None:
        if path.exists():
            warnings.warn(f"the exemplar cache '{path}' is damaged and is computed again", RuntimeWarning, stacklevel=2)
        loader = _loader(images, transform, batch_size, workers)
        bar = progress and len(images) > BAR_FROM
        batches = _batches(tsm.to(device), track(loader, "exemplars") if bar else loader, kind, device)
        logits = (len(images), tsm.num_classes)
        atomic_write(path, lambda temporary: write_exemplars(temporary, batches, features, logits))
        table = read_exemplars(path)
    return table


def compute_exemplars(
    tsm: TSM,
    images: Sequence[Image.Image],
    *,
    kind: str,
    transform: Transform,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    workers: int = 0,
) -> ExemplarTable:
    """Return the TSM's features and logits of images that belong to no data set; nothing is kept on disk.

    Args and what is returned are those of `cached_exemplars`, except that the table is in memory.
    """
    loader = _loader(images, transform, batch_size, workers)
    features, logits = zip(*_batches(tsm.to(device), loader, kind, device), strict=True)
    return ExemplarTable(torch.cat(features), torch.cat(logits))


def exemplar_key(tsm: TSM, *, kind: str, transform: Transform, data_fingerprint: str, num_images: int) -> str:
    """Return the sha256 of everything that the exemplars depend on."""
    parts = {
        "format": FORMAT_VERSION,
        "timm": timm.__version__,
        "weights": weights_digest(tsm),
        "architecture": tsm.architecture,
        "data": [data_fingerprint, num_images],
        "transform": describe_transform(transform),
        "kind": kind,
        "dtype": "float32",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Pixels(Dataset):
    """Images as a TSM sees them."""

    def __init__(self, images: Sequence[Image.Image], transform: Transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.images[index])


def _loader(images: Sequence[Image.Image], transform: Transform, batch_size: int, workers: int) -> DataLoader:
    """Return the batches in order; an own generator keeps a computed cache from moving the global random state."""
    return DataLoader(_Pixels(images, transform), batch_size, num_workers=workers, generator=torch.Generator())


def _batches(tsm: TSM, loader: DataLoader, kind: str, device: str | torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (features, logits) of each batch, float32 on the CPU."""
    was_training = tsm.training
    tsm.eval()
    try:
        with torch.inference_mode():
            for pixels in loader:
                features, logits = tsm.features_and_logits(pixels.to(device), kind)
                yield features.cpu(), logits.float().cpu()
    finally:
        tsm.train(was_training)
