"""What training cost: time, memory, FLOPs and parameters, added up over interruptions."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vitask.training.flops import StepFlops

if TYPE_CHECKING:
    from torch import nn

RESET_PEAK = Path("/proc/self/clear_refs"), "5"
"""Linux: lets the peak of a process's memory begin anew."""


class CostMeter:
    """Measures the loop that trains a module.

    FLOPs are counted in the first optimiser step and taken to be the same a sample in all others, which differ only by
    the lengths of their texts.

    Args:
        module: what trains, frozen parts included.
        device: on which.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module
        self.device = device
        self.samples = 0
        self.flops_per_sample: float | None = None
        self._seconds = 0.0
        self._peak: int | None = None
        self._started: float | None = None

    def start(self) -> None:
        """Begin to measure, or go on with it after an interruption."""
        self._started = time.perf_counter()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        with suppress(OSError):
            RESET_PEAK[0].write_text(RESET_PEAK[1])

    @contextmanager
    def step(self, own: int, everywhere: int) -> Iterator[None]:
        """Measure an optimiser step within this context.

        Args:
            own: its samples on this rank.
            everywhere: its samples on all ranks.
        """
        if self.flops_per_sample is None and own:
            with StepFlops() as counter:
                yield
            self.flops_per_sample = counter.flops / own
        else:
            yield
        self.samples += everywhere

    def summary(self) -> dict[str, Any]:
        """Return what there is to report.

        Returns:
            `seconds` of the loop, waiting for data, validation and checkpoints included; `peak_memory_bytes` of the GPU
            if there is one, else of the process (None where the system does not say); `flops` of all optimiser steps;
            `trained_parameters` and `total_parameters`; `samples_per_second`.
        """
        parameters = list(self.module.parameters())
        seconds = self._total_seconds()
        return {
            "seconds": round(seconds, 2),
            "peak_memory_bytes": self._peak_memory(),
            "flops": round((self.flops_per_sample or 0.0) * self.samples),
            "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "total_parameters": sum(p.numel() for p in parameters),
            "samples_per_second": round(self.samples / seconds, 1) if seconds else None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {
            "samples": self.samples,
            "flops_per_sample": self.flops_per_sample,
            "seconds": self._total_seconds(),
            "peak_memory_bytes": self._peak_memory(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where an interrupted run was saved."""
        self.samples, self.flops_per_sample = state["samples"], state["flops_per_sample"]
        self._seconds, self._peak = state["seconds"], state["peak_memory_bytes"]

    def _total_seconds(self) -> float:
        return self._seconds + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def _peak_memory(self) -> int | None:
        """The largest of this process, since `start`, and of those that were interrupted."""
        if self._started is None:
            return self._peak
        found = [peak for peak in (self._peak, peak_memory(self.device)) if peak is not None]
        return max(found, default=None)


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that were held at once: on a GPU those of tensors, else those of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return None
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
