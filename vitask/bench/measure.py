"""Timing side by side: every row once, then every row again, so that what else the machine does hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

Run = Callable[[], Any]


@dataclass(frozen=True)
class Setting:
    """How to measure.

    Attributes:
        device: where; on `meta` FLOPs and bytes are counted and nothing is computed.
        half: whether to compute in bfloat16, by autocast as in training.
        repeats: timed rounds.
        warmup: rounds before them.
    """

    device: torch.device
    half: bool
    repeats: int
    warmup: int

    @property
    def counts_only(self) -> bool:
        """Whether there are shapes alone."""
        return self.device.type == "meta"

    def amp(self) -> AbstractContextManager:
        """Return the context of a forward pass."""
        kind = "cpu" if self.counts_only else self.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.half)


def interleaved(runs: Mapping[str, Run], setting: Setting) -> dict[str, list[float]]:
    """Warm up, then time every run in turn; return the seconds of each, the i-th of all from the same round.

    Example:
        >>> interleaved({"a": fast, "b": slow}, setting)
        {'a': [0.10, 0.11], 'b': [0.32, 0.31]}
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    rounds = 0 if setting.counts_only else setting.warmup + setting.repeats
    for _ in range(rounds):
        gc.collect()
        for name, run in runs.items():
            seconds[name].append(timed(run, setting.device))
    return {name: values[setting.warmup :] for name, values in seconds.items()}


def timed(run: Run, device: torch.device) -> float:
    """Return the seconds of one run, with what it left on the device's queue."""
    wait(device)
    started = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(seconds: Sequence[float], base: Sequence[float]) -> dict[str, float] | None:
    """Compare two rows round by round: median, smallest and largest ratio; None where nothing was timed.

    Example:
        >>> ratio([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
        {'median': 3.0, 'min': 2.0, 'max': 4.0}
    """
    ratios = [own / other for own, other in zip(seconds, base, strict=True)]
    return {"median": median(ratios), "min": min(ratios), "max": max(ratios)} if ratios else None


def peak_bytes(run: Run, device: torch.device) -> int | None:
    """Return the GPU memory that a run needs on top of what is held already; None on other devices."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    wait(device)
    return torch.cuda.max_memory_allocated(device) - before
