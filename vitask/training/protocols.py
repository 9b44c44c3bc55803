"""What the loop trains, and on what: anything that is called like this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """What the loop trains: a module whose forward gives `{"loss", part, ...}` of a micro-batch."""

    def counts(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What each part is averaged over."""

    def __call__(self, batch: Mapping[str, Any], totals: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Loss and parts, normalised by the totals of the whole step; also `answers`, counts to be watched."""


class TrainingData(Protocol):
    """A training split: items by key, and how items become a micro-batch."""

    def __len__(self) -> int:
        """Number of samples of an epoch."""

    def keys(self, epoch: int, steps: Sequence[Sequence[int]]) -> list[list[Any]]:
        """The keys of an epoch's items from their indices, one list an optimiser step (over all ranks)."""

    def __getitem__(self, key: Any) -> Any:
        """One item, a pure function of its key."""

    def collate(self, items: Sequence[Any]) -> Mapping[str, Any]:
        """One micro-batch; its `id` has one entry a sample."""
