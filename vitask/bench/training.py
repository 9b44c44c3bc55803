"""Measures the training steps: agreement first, then FLOPs and memory, then time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch

from vitask.bench.counting import count
from vitask.bench.material import Batches
from vitask.bench.measure import Setting, interleaved, peak_bytes, ratio
from vitask.bench.sizes import Models
from vitask.bench.steps import AFTER, BEFORE, PACKED, PLAIN, STAGES, STOCK, Parts, check_agreement, training_steps
from vitask.training.objective import Objective

HOST_REPEATS = 5


def measure_training(models: Models, batches: Batches, setting: Setting) -> list[dict[str, Any]]:
    """Measure forward and backward of every training step; the optimiser's part, equal for all, is left out.

    Returns:
        One record a step: `name`, `stage`, `loss`, `flops`, `saved_bytes`, `peak_bytes`, `seconds`, and for time, FLOPs
        and memory the ratios to the two base rows. On the device `meta` nothing is timed.

    Raises:
        VitaskError: two rows that should compute the same do not.
    """
    steps = {step.key: step for step in training_steps(models, batches)}
    computations = {key: step.prepare() for key, step in steps.items()}
    if not setting.counts_only:
        losses = {key: _parts(compute, setting) for key, compute in computations.items()}
        check_agreement(losses, half=models.half)
    runs = {key: full_step(models, compute, setting) for key, compute in computations.items()}
    records: dict[str, dict[str, Any]] = {}
    for key, compute in computations.items():
        flops, saved = count_step(models, compute, setting)
        records[key] = {
            "name": steps[key].name,
            "stage": steps[key].stage,
            "loss": None if setting.counts_only else losses[key]["loss"],
            "flops": flops,
            "saved_bytes": saved,
            "peak_bytes": peak_bytes(runs[key], setting.device),
        }
    for key, seconds in interleaved(runs, setting).items():
        records[key]["seconds"] = seconds
    models.zero_grad()
    return list(_compared(records))


def full_step(models: Models, compute: Callable[[], Parts], setting: Setting) -> Callable[[], None]:
    """Return what computes a loss and its gradients."""

    def run() -> None:
        models.zero_grad()
        with setting.amp():
            loss = compute()["loss"]
        loss.backward()

    return run


def count_step(models: Models, compute: Callable[[], Parts], setting: Setting) -> tuple[int, int]:
    """Return the FLOPs of a step and the bytes saved for its backward pass."""

    def loss() -> torch.Tensor:
        with setting.amp():
            return compute()["loss"]

    models.zero_grad()
    return count(loss, models.tensors(), setting.device)


@torch.no_grad()
def _parts(compute: Callable[[], Parts], setting: Setting) -> dict[str, float]:
    with setting.amp():
        return {name: float(value) for name, value in compute().items()}


def _compared(records: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add the ratios to the two base rows."""
    for record in records.values():
        ratios: dict[str, dict[str, Any]] = {}
        for base in (PLAIN, STOCK):
            other = records[base]
            ratios[base] = {"seconds": ratio(record["seconds"], other["seconds"])}
            for name in ("flops", "saved_bytes", "peak_bytes"):
                ratios[base][name] = record[name] / other[name] if other[name] else None
        yield {**record, "ratios": ratios}


def host_costs(batches: Batches) -> list[dict[str, Any]]:
    """Time what the data-loading processes do for a step of stage 2: tokens, packing, the copy of cached features."""
    vanilla = Objective({"vanilla": 1.0}).branches
    branches = Objective(dict.fromkeys(STAGES["2"], 1.0)).branches
    records = []
    for name, form, position, wanted in (
        (PLAIN, "plain", BEFORE, vanilla),
        ("VITask plain, before_assistant", "plain", BEFORE, branches),
        (PACKED, "packed", BEFORE, branches),
        ("VITask packed, after_image", "packed", AFTER, branches),
        (f"{PACKED}, + CSA, 10 labels", "packed", BEFORE, (*branches, "labels")),
    ):
        source = batches.source(wanted, form, position, live=False)
        items, seconds = batches.items(source), []
        for _ in range(HOST_REPEATS):
            started = time.perf_counter()
            source.collate(items)
            seconds.append(time.perf_counter() - started)
        records.append({"name": name, "seconds": seconds, "median": median(seconds)})
    return records
