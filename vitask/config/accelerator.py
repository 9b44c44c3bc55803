"""What the ranks of a run share: a process group, an accelerator, a tracker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.config import schema
from vitask.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator


def join_ranks(device: str) -> None:
    """Let the ranks of torchrun or `accelerate launch` find each other; does nothing in a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState(cpu=_on_cpu(device))


def _on_cpu(device: str) -> bool:
    """Whether to keep to the CPU; without asking for it, accelerate lets each of several CPU ranks train alone."""
    import torch

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return device == "cpu" or (several and not torch.cuda.is_available())


def build_accelerator(launch: schema.LaunchConfig, logger: schema.LoggerConfig, folder: Path) -> Accelerator:
    """Build the accelerator, whose trackers `start_trackers` starts; the loop alone accumulates and shares.

    Raises:
        UsageError: the machine lacks the precision, or `accelerate launch` asks for FSDP, DeepSpeed or the like.
    """
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    from vitask.training.ranks import whole

    _refuse_plugins(os.environ)
    try:
        accelerator = Accelerator(
            mixed_precision=launch.precision,
            cpu=_on_cpu(launch.device),
            log_with=None if logger.tracker == "none" else logger.tracker,
            project_dir=str(folder),
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # the loop accumulates by itself
        )
    except ValueError as error:
        raise UsageError(f"launch.precision={launch.precision}: {error}") from error
    whole(accelerator)
    return accelerator


def _refuse_plugins(environment: Mapping[str, str]) -> None:
    """Raise a `UsageError` if `accelerate launch` asks for another way of sharing a model than the loop's own."""
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        if environment.get(key := f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1", "yes"):
            raise UsageError(
                f"{key}: in the environment, as a configuration of accelerate sets it; vitask shares a model over the "
                "ranks itself (launch.shard=true). Take a configuration of accelerate without it"
            )


def start_trackers(
    accelerator: Accelerator, logger: schema.LoggerConfig, folder: Path, *, run_id: str, step: int
) -> None:
    """Start the tracker that was asked for; that of an interrupted run goes on behind `step`, without doubles.

    Nothing contacts a server unless `logger.mode=online`.
    """
    if logger.tracker != "none":
        wandb = {"mode": logger.mode, "dir": str(folder), "name": folder.name, "id": run_id, "resume": "allow"}
        options = {"wandb": wandb, "tensorboard": {"purge_step": step + 1}}
        accelerator.init_trackers(logger.project, init_kwargs=options)
