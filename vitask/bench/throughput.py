"""On a GPU: samples and tokens a second, and how much of the card's matrix rate they use, until its memory is full."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from vitask.bench.material import Batches, make_material
from vitask.bench.measure import Setting, interleaved, peak_bytes, timed
from vitask.bench.sizes import Models, Size
from vitask.bench.steps import PACKED, PLAIN, STOCK, training_steps
from vitask.bench.training import count_step, full_step

ROWS = (STOCK, PLAIN, f"{PACKED}, stage 2")
SIDE, PRODUCTS = 8192, 20
"""The matrices whose product says what the card can do, and how often they are multiplied."""
LARGEST = 1024


def measure_throughput(
    models: Models, size: Size, seed: int, setting: Setting, *, largest: int = LARGEST, side: int = SIDE
) -> dict[str, Any]:
    """Double the batch of a few steps until the memory is full.

    Args:
        models: the models of `size`.
        size: how large.
        seed: of the batches.
        setting: device and repeats.
        largest: batch size at which to stop in any case.
        side: of the matrices whose product gives the card's rate.

    Returns:
        `matmul_flops_per_second`, measured on this card just now; `rows`, one record a step and batch size with
        `samples_per_second`, `tokens_per_second` (of the language model), `utilisation` and `peak_bytes`; `largest`,
        the largest batch size that fits by step.
    """
    rate = matmul_rate(setting, side)
    rows, fits = [], {}
    for key in ROWS:
        for batch_size in (2**power for power in range(largest.bit_length())):
            found = _fitting(lambda k=key, b=batch_size: _measured(models, size, seed, setting, k, b))
            if found is None:
                break
            fits[key] = batch_size
            rows.append({**found, "utilisation": found["flops"] / found["seconds"] / rate})
    return {"matmul_flops_per_second": rate, "rows": rows, "largest": fits}


def matmul_rate(setting: Setting, side: int = SIDE) -> float:
    """Return the FLOPs a second of a large square product, the best of a few tries, in the step's precision."""
    dtype = torch.bfloat16 if setting.half else torch.float32
    left, right = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(PRODUCTS):
            left @ right

    return PRODUCTS * 2 * side**3 / min(timed(multiply, setting.device) for _ in range(4))


def _measured(models: Models, size: Size, seed: int, setting: Setting, key: str, batch_size: int) -> dict[str, Any]:
    """Measure one step at one batch size."""
    batches = Batches(make_material(size, batch_size, seed, setting.device), models.vlm())
    compute = next(step for step in training_steps(models, batches) if step.key == key).prepare()
    run = full_step(models, compute, setting)
    peak = peak_bytes(run, setting.device)  # first, as it is what may not fit
    flops, _ = count_step(models, compute, setting)
    positions = _positions(models, compute, setting)
    seconds = median(interleaved({key: run}, replace(setting, warmup=1))[key])
    models.zero_grad()
    return {
        "name": key,
        "batch_size": batch_size,
        "seconds": seconds,
        "samples_per_second": batch_size / seconds,
        "tokens_per_second": positions / seconds,
        "flops": flops,
        "peak_bytes": peak,
    }


def _positions(models: Models, compute: Callable[[], Any], setting: Setting) -> int:
    """Count the tokens that the language model sees in a step."""
    family = models.vlm().family
    decoder = models.vlm().base.get_submodule(family.language_model)
    seen: list[int] = []
    hook = decoder.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    try:
        with torch.no_grad(), setting.amp():
            compute()
    finally:
        hook.remove()
    return sum(seen)


def _fitting(measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Measure, or return None if the memory is too small, which is given back either way."""
    found = None
    with suppress(torch.OutOfMemoryError):
        found = measure()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found
