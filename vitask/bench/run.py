"""One whole measurement: build, check, count, time, and write what was found."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vitask.bench.material import Batches, make_material
from vitask.bench.measure import Setting
from vitask.bench.scoring import measure_scoring
from vitask.bench.sizes import SIZES, Models
from vitask.bench.throughput import measure_throughput
from vitask.bench.training import host_costs, measure_training
from vitask.errors import UsageError
from vitask.files import atomic_write

if TYPE_CHECKING:
    from vitask.config.schema import BenchConfig


def bench(config: BenchConfig) -> dict[str, Any]:
    """Measure and write `config.out`.

    Returns:
        What was written: `versions`, `machine`, `config`, `size`, `parameters`, and the parts `training`, `host`,
        `scoring` (not on `meta`) and `throughput` (on a GPU alone).

    Raises:
        UsageError: there is no such device, or `out` cannot be a file.
        VitaskError: rows that should compute the same do not.
    """
    device, out = _device(config.device), _out(config.out)
    size = SIZES[config.size]
    dtype = getattr(torch, size.dtype if config.dtype == "auto" else config.dtype)
    setting = Setting(device, dtype == torch.bfloat16, config.repeats, config.warmup)
    models = Models(size, device, dtype, config.seed)
    batches = Batches(make_material(size, config.batch_size, config.seed, device), models.vlm())
    result: dict[str, Any] = {
        "versions": _versions(),
        "machine": _machine(device),
        "config": asdict(config),
        "size": asdict(size),
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in models.adapted.parameters()),
        "training": measure_training(models, batches, setting),
    }
    if not setting.counts_only:
        result["host"] = host_costs(batches)
        result["scoring"] = measure_scoring(models, batches, setting)
    if device.type == "cuda":
        result["throughput"] = measure_throughput(models, size, config.seed, setting)
    text = json.dumps(result, indent=1) + "\n"
    atomic_write(out, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return result


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device=cuda: torch sees no GPU; use device=cpu, or device=meta to count without computing")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def _out(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        raise UsageError(f"out={name}: this is a folder; give the name of a JSON file")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _versions() -> dict[str, str]:
    import peft
    import transformers

    from vitask import __version__

    return {
        "vitask": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def _machine(device: torch.device) -> dict[str, Any]:
    """Name the processor or card; on a CPU also the number of threads and cores."""
    if device.type == "cuda":
        return {"device": "cuda", "name": torch.cuda.get_device_name(device)}
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "cores": os.cpu_count()}
