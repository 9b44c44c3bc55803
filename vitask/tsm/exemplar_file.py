"""One split's exemplars in one safetensors file, written batch by batch: EP_all of a large split exceeds memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vitask.files import read_tensors, write_tensors


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
    layout = {"features": (torch.float32, features), "logits": (torch.float32, logits)}
    write_tensors(path, layout, _features_then_logits(batches))


def read_exemplars(path: Path) -> ExemplarTable | None:
    """Open the file that `write_exemplars` wrote; None when it is damaged.

    Raises:
        FileNotFoundError: when there is none.
    """
    tensors = read_tensors(path)
    return None if tensors is None else ExemplarTable(**tensors)


def _features_then_logits(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """Yield the features as they come and keep the logits, which are small, for the end."""
    kept = []
    for features, logits in batches:
        yield features
        kept.append(logits)
    yield torch.cat(kept)
