"""One step of a stage, measured, and what the whole stage will take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from vitask.config.build import build_optimizer
from vitask.runs.doctor_machine import Needs
from vitask.runs.findings import Finding, in_bytes, note, ok, wrong
from vitask.training.checkpoint import trainable_state
from vitask.training.cost import peak_memory

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from vitask.config.schema import OptimConfig
    from vitask.training.protocols import TrainingData
    from vitask.tsm import ExemplarSource

LONG = 10.0
"""Seconds of a first, cold pass from which a second one is not worth the wait."""
FEW = 50
"""Steps of a TSM below which it is worth a word."""
CHECKPOINTS = 3
"""Two that are kept, and one that is being written; the model at the end is smaller."""
NUDGE = 0.02
"""Standard deviation of what is added to LoRA's second factor: it begins at 0, and would hide the first's gradient."""


@dataclass(frozen=True)
class Step:
    """One micro-batch forward and backward, and an update.

    Attributes:
        seconds: of forward, backward and update.
        samples: in it.
        parts: the loss and its parts.
        peak: most bytes held at once, where the system says.
        trained: parameters that train.
        total: all parameters.
        checkpoint: bytes of a resumable checkpoint.
    """

    seconds: float
    samples: int
    parts: dict[str, float]
    peak: int | None
    trained: int
    total: int
    checkpoint: int


def measure(task: nn.Module, data: TrainingData, optim: OptimConfig, accelerator: Accelerator) -> Step:
    """Take one step, with the gradients left in place to be looked at."""
    task.to(accelerator.device).train()
    rows = range(min(len(data), optim.micro_batch_size or optim.batch_size, optim.batch_size))
    (keys,) = data.keys(0, [rows])
    batch = send_to_device(data.collate([data[key] for key in keys]), accelerator.device)
    optimizer = build_optimizer(optim, task)
    _nudge(task)
    for _ in range(2):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        parts = _values(task, batch, accelerator)
        optimizer.step()
        if (seconds := time.perf_counter() - started) > LONG:
            break
    trained = [p for p in task.parameters() if p.requires_grad]
    moments = [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
    return Step(
        seconds=seconds,
        samples=len(rows),
        parts=parts,
        peak=peak_memory(accelerator.device),
        trained=sum(p.numel() for p in trained),
        total=sum(p.numel() for p in task.parameters()),
        checkpoint=sum(t.nbytes for t in (*trainable_state(task).values(), *moments)),
    )


def _values(task: nn.Module, batch: Any, accelerator: Accelerator) -> dict[str, float]:
    """Go forward and backward once, every weight at its full height; reading the values waits for the device."""
    totals: dict[str, Tensor] = task.counts(batch)
    with accelerator.autocast():
        parts = task(batch, totals, 1.0)
    parts["loss"].backward()
    return {name: value.item() for name, value in parts.items() if value.ndim == 0}


def _nudge(task: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            if parameter.requires_grad and ".lora_B." in name:
                parameter.add_(torch.randn_like(parameter), alpha=NUDGE)


def step_finding(stage: str, step: Step, optim: OptimConfig, steps: int) -> Finding:
    """Say what a stage will take, or which part of its loss is not finite."""
    broken = [name for name, value in step.parts.items() if not torch.tensor(value).isfinite()]
    if broken:
        return wrong(f"{stage}, step", f"the loss is not finite: {', '.join(broken)}; try launch.precision=no")
    passes = -(-optim.batch_size // step.samples)
    seconds = step.seconds * passes
    memory = "" if step.peak is None else f"{in_bytes(step.peak)} of memory at most; "
    few = stage == "tsm" and steps < FEW
    return (note if few else ok)(
        f"{stage}, step",
        f"{steps} steps of {seconds:.2f} s: about {_duration(steps * seconds)} on one device, without validation; "
        f"{memory}{step.trained:,} of {step.total:,} parameters train; a checkpoint has {in_bytes(step.checkpoint)}; "
        f"loss {step.parts['loss']:.3f}"
        + ("; so few steps may leave it no better than chance, take more (tsm.optim.epochs)" if few else ""),
    )


def needs_of(step: Step, images: int, source: ExemplarSource | None, feature_cache_gb: float) -> Needs:
    """Return what a stage will write: checkpoints, exemplars of its images, at most the features that it may keep."""
    exemplars = 0 if source is None else images * source.num_tokens * source.feature_dim * 4
    return Needs(CHECKPOINTS * step.checkpoint, exemplars + int(feature_cache_gb * 1e9))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
