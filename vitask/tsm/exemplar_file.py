"""One split's exemplars in one safetensors file: written batch by batch, read by memory map, checked by a digest.

safetensors has no writer that appends, and EP_all of a large split does not fit in memory; so the header, which is
known beforehand, is written here, then features as they come, then logits, then the sha256 of all that as a tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

DIGEST_BYTES = 32


@dataclass(frozen=True)
class ExemplarTable:
    """Exemplars of a split, row i belonging to image i; both tensors are float32 and memory-mapped.

    Attributes:
        features: `(N, K, D)`.
        logits: the TSM's logits, `(N, num_classes)`.
    """

    features: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.features)


def write_exemplars(
    path: Path, batches: Iterable[tuple[Tensor, Tensor]], features: tuple[int, int, int], logits: tuple[int, int]
) -> None:
    """Write `batches` of (features, logits), float32, whose rows add up to the shapes `features` and `logits`."""
    with path.open("wb") as file:
        digest, kept = hashlib.sha256(), []

        def append(data: bytes) -> None:
            file.write(data)
            digest.update(data)

        append(_header(features, logits))
        for some_features, some_logits in batches:
            append(some_features.contiguous().numpy().tobytes())
            kept.append(some_logits)
        append(torch.cat(kept).contiguous().numpy().tobytes())
        file.write(digest.digest())


def read_exemplars(path: Path) -> ExemplarTable | None:
    """Open the file that `write_exemplars` wrote; None when it is damaged.

    Raises:
        FileNotFoundError: when there is none.
    """
    try:
        with safe_open(path, "pt") as file:
            table = ExemplarTable(file.get_tensor("features"), file.get_tensor("logits"))
            recorded = bytes(file.get_tensor("sha256").tolist())
    except SafetensorError:
        return None
    return table if _digest(path) == recorded else None


def _header(features: tuple[int, ...], logits: tuple[int, ...]) -> bytes:
    """Return the safetensors header: its length in 8 bytes, then the JSON, padded so that the data is aligned."""
    entries, start = {}, 0
    for name, dtype, shape, size in (
        ("features", "F32", features, 4 * prod(features)),
        ("logits", "F32", logits, 4 * prod(logits)),
        ("sha256", "U8", (DIGEST_BYTES,), DIGEST_BYTES),
    ):
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _digest(path: Path) -> bytes:
    """Return the sha256 of everything before the recorded digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = path.stat().st_size - DIGEST_BYTES
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
    return digest.digest()
