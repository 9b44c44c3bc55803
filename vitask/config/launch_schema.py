"""Where a run takes place: on which device, in how many processes, on how many machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from vitask.config.options import one_of, within


@dataclass
class LaunchConfig:
    """Where and in which precision to run; runs from before a key was there have its default."""

    device: str = one_of("auto", "cpu")
    precision: str = one_of("no", "bf16", "fp16")
    workers: int = within(0)
    save_every: int = within(0)
    save_minutes: float = within(0, default=0.0)
    processes: Optional[int] = within(1, default=1)  # noqa: UP045
    machines: int = within(1, default=1)
    machine: Optional[int] = within(0, default=None)  # noqa: UP045
    address: Optional[str] = None  # noqa: UP045
    port: int = within(1, 65535, default=29500)
    shard: bool = False
    slurm: Optional[list[str]] = None  # noqa: UP045
    submit: bool = False
