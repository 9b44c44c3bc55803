"""What a frozen vision tower and projector give for each image of a split, computed once and kept on disk.

A training step that reads its image features here needs no vision tower. Every file's name is the hash of all that its
features depend on; the files of one folder share a budget, and the least recently used ones give way.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from filelock import FileLock
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from vitask.files import (
    atomic_write,
    file_size,
    map_tensors,
    read_tensors,
    remove_leftovers,
    tensors_digest,
    write_tensors,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompter

    Inputs = Mapping[str, Tensor]

FORMAT_VERSION = 1
BAR_FROM = 1000
SPARE_BYTES = 1 << 30
"""Disk space that is left free."""
FILES, LOCK = "image-features-*.safetensors", "image-features.lock"


@dataclass(frozen=True)
class ImageFeatures:
    """Image features of a split, `features[i]` belonging to image i, memory-mapped.

    Attributes:
        values: features of all images, one image after the other, `(total tokens, L, D)`.
        offsets: where each image begins, and the end, `(N + 1,)` int64.

    Example:
        >>> features[0].shape
        torch.Size([256, 1, 2048])
    """

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        """Return the features of one image, `(tokens, L, D)`: a view of the file.

        Between processes a view takes the whole file along, so a worker hands on what `gather` returns.

        Raises:
            IndexError: there is no such image; negative numbers do not count from the end.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"no image {index} among the features of {len(self)} images")
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def gather(self, indices: Sequence[int]) -> Tensor:
        """Return a copy of the features of several images, `(total tokens of these, L, D)`."""
        return torch.cat([self.values[:0], *(self[index] for index in indices)])

    @property
    def token_counts(self) -> list[int]:
        """Number of tokens of each image."""
        return self.offsets.diff().tolist()


def cached_image_features(
    encode: Callable[[list[Inputs]], Tensor],
    image_inputs: Sequence[Inputs],
    token_counts: Sequence[int],
    *,
    key: Mapping[str, Any],
    shape: tuple[int, int],
    dtype: torch.dtype,
    cache_dir: str | Path,
    budget_gb: float,
    batch_size: int = 16,
    workers: int = 0,
    progress: bool = True,
    say: Callable[[str], Any] = print,
) -> ImageFeatures | None:
    """Return the image features of a split, from `cache_dir` when they were computed before.

    Several processes may ask at once: one computes, the others wait and read. A damaged file is computed again. What is
    asked for is kept and files that were used longest ago are removed, once the folder is over its budget.

    Args:
        encode: from the image inputs of some images to their features, `(sum of their tokens, L, D)`, on any device; it
            is called in inference mode, and the model must be in evaluation mode.
        image_inputs: the model's image inputs by index, one mapping an image; looked at only when computing.
        token_counts: number of tokens by index; looked at only when computing.
        key: what the features depend on, from `image_cache_key`. Their number, shape, dtype and the format are added.
        shape: levels and width of a feature, `(L, D)`.
        dtype: float32, float16 or bfloat16, as `encode` returns it.
        cache_dir: folder of the cache, made when absent; other files in it are left alone and do not count.
        budget_gb: largest size of all image features in the folder, in GB (10^9 bytes).
        batch_size: images in one call of `encode`.
        workers: processes that make image inputs.
        progress: show a bar when there are more than 1000 images.
        say: takes the line that says why nothing is kept.

    Returns:
        The features; None when they are too large for the budget or the disk, and the vision tower is needed after all.

    Raises:
        ValueError: `encode` does not return what `token_counts`, `shape` and `dtype` say.

    Example:
        >>> key = image_cache_key(vlm, prompter, data_fingerprint=task.fingerprint, split="train")
        >>> features = cached_image_features(encode, inputs, counts, key=key, shape=(1, 2048), dtype=torch.bfloat16,
        ...                                  cache_dir="~/.cache/vitask/image-features", budget_gb=20)
        >>> features.gather([3, 0]).shape
        torch.Size([512, 1, 2048])
    """
    folder = Path(cache_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILES.replace("*", _hash(key, len(image_inputs), shape, dtype))
    while (features := _read(path)) is None:
        damaged = path.exists()
        with FileLock(folder / LOCK):
            if path.exists() and not (damaged and _read(path) is None):
                continue  # another process was quicker; its file is read without the lock, for that may take a while
            if path.exists():
                warnings.warn(f"the cache '{path}' is damaged and is computed again", RuntimeWarning, stacklevel=2)
                path.unlink()
            remove_leftovers(folder, FILES)
            counts = [int(token_counts[index]) for index in range(len(image_inputs))]
            batches = _batches(image_inputs, batch_size, workers, progress)
            lacking = _write(path, counts, shape, dtype, budget_gb * 1e9, _encoded(encode, batches, counts))
            if lacking is None:
                return ImageFeatures(**map_tensors(path))  # before another process may remove it to make room
        say(f"image features are not kept on disk, every step runs the vision tower: {lacking}")
        return None
    return features


def image_cache_key(vlm: ExemplarVLM, prompter: Prompter, *, data_fingerprint: str, split: str) -> dict[str, Any]:
    """Return everything that the image features of a split depend on, as JSON can hold it.

    Args:
        vlm: everything outside its language model counts: weights, and the configuration with its attention kernels.
        prompter: its processor's image settings and options count.
        data_fingerprint: what identifies the data.
        split: what identifies the images among them.

    Raises:
        ValueError: the vision tower or the projector is to be trained.
    """
    weights = _image_weights(vlm)
    trained = sorted(name for name, tensor in weights.items() if tensor.requires_grad)
    if trained:
        raise ValueError(f"features of an image encoder that trains cannot be kept: '{trained[0]}' is not frozen")
    config = vlm.base.config
    return {
        "transformers": transformers.__version__,
        "weights": tensors_digest(weights),
        "config": {name: value for name, value in config.to_dict().items() if name != "_name_or_path"},
        "attention": _attention(config),
        "processor": type(prompter.processor).__name__,
        "image_settings": prompter.processor.image_processor.to_dict(),
        "image_options": dict(prompter.image_options),
        "data": data_fingerprint,
        "split": split,
    }


def _hash(key: Mapping[str, Any], num_images: int, shape: tuple[int, int], dtype: torch.dtype) -> str:
    parts = {"key": key, "format": FORMAT_VERSION, "images": num_images, "shape": shape, "dtype": str(dtype)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _image_weights(vlm: ExemplarVLM) -> dict[str, Tensor]:
    """Return weights and buffers of everything but the language model, by name."""
    language = (vlm.base.get_submodule(vlm.family.language_model), vlm.base.get_output_embeddings())
    left_out = {id(tensor) for module in language for tensor in module.state_dict(keep_vars=True).values()}
    state = vlm.base.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if id(tensor) not in left_out}


def _attention(config: PretrainedConfig) -> dict[str, str | None]:
    """Return the attention kernels of the model and its parts, which `to_dict` leaves out."""
    parts = {"": config, **{name: getattr(config, name, None) for name in config.sub_configs}}
    return {name: getattr(part, "_attn_implementation", None) for name, part in parts.items()}


def _read(path: Path) -> ImageFeatures | None:
    """Mark a file as used and open it; None when it is absent or damaged."""
    with suppress(OSError):  # absent, or another user's
        os.utime(path)
    try:
        tensors = read_tensors(path)
    except FileNotFoundError:
        return None
    return None if tensors is None else ImageFeatures(**tensors)


def _write(
    path: Path, counts: list[int], shape: tuple[int, int], dtype: torch.dtype, budget: float, encoded: Iterator[Tensor]
) -> str | None:
    """Make room and write a file, all or nothing; return what is lacking if the budget or the disk is too small."""
    offsets = torch.tensor([0, *accumulate(counts)])
    layout = {"offsets": (torch.int64, tuple(offsets.shape)), "values": (dtype, (sum(counts), *shape))}
    lacking = _make_room(path.parent, file_size(layout), budget)
    if lacking is not None:
        return lacking
    try:
        atomic_write(path, lambda temporary: write_tensors(temporary, layout, chain([offsets], encoded)))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return f"the disk of '{path.parent}' is full"
    return None


def _batches(image_inputs: Sequence[Inputs], batch_size: int, workers: int, progress: bool) -> Iterable[list[Inputs]]:
    """Return the batches in order; an own generator keeps a computed cache from moving the global random state."""
    loader = DataLoader(image_inputs, batch_size, collate_fn=list, num_workers=workers, generator=torch.Generator())
    return track(loader, "image features") if progress and len(image_inputs) > BAR_FROM else loader


def _encoded(
    encode: Callable[[list[Inputs]], Tensor], batches: Iterable[list[Inputs]], counts: list[int]
) -> Iterator[Tensor]:
    """Yield the features of each batch, checking that there are as many as image tokens."""
    start = 0
    for inputs in batches:
        with torch.inference_mode():
            features = encode(inputs)
        tokens = sum(counts[start : start + len(inputs)])
        if len(features) != tokens:
            last = start + len(inputs) - 1
            raise ValueError(
                f"images {start} to {last} have {tokens} image tokens, but became {len(features)} features"
            )
        start += len(inputs)
        yield features


def _make_room(folder: Path, size: int, budget: float) -> str | None:
    """Remove the least recently used files until `size` bytes fit; return what is lacking if they cannot."""
    files = sorted(folder.glob(FILES), key=lambda file: file.stat().st_mtime_ns)
    held = sum(file.stat().st_size for file in files)
    if size > budget:
        return f"{_gb(size)} are over the budget of {_gb(budget)}"
    if size <= _free(folder) + held:
        while files and (held + size > budget or size > _free(folder)):
            held -= files[0].stat().st_size
            files.pop(0).unlink()
    return None if size <= _free(folder) else f"{_gb(size)} do not fit on the disk of '{folder}'"


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free - SPARE_BYTES


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"
