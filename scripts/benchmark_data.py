"""Measure memory and speed of the data path: convert and stream generated images, each size in a process of its own.

python scripts/benchmark_data.py 1 8                 # gigabytes; the peak of 8 must be at most 1.1 times that of 1
python scripts/benchmark_data.py 0.25 1 --members 1  # one data set instead of a mixture
python scripts/benchmark_data.py --loader 28 224     # pixels; the training loader beside a step of the tiny VLM
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

SIDE = 224
LABELS = ("a", "b", "c")


class GeneratedImages:
    """Uncompressed colour images of random pixels, made as they are asked for."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def stamp(self) -> str:
        """Tell generated sets apart."""
        return f"generated {self.count} {self.seed}"

    def name(self, row: int) -> str:
        """Name a row."""
        return f"generated image {row}"

    def items(self, start: int) -> Iterator[bytes]:
        """Yield images."""
        for row in range(start, self.count):
            pixels = np.random.default_rng([self.seed, row]).bytes(SIDE * SIDE * 3)
            yield f"P6 {SIDE} {SIDE} 255\n".encode() + pixels


class DrawnImages(GeneratedImages):
    """Colour images of soft shapes with a little noise, which compress as photographs do, as pixels."""

    def __init__(self, count: int, side: int) -> None:
        super().__init__(count, side)
        self.side = side

    def items(self, start: int) -> Iterator[np.ndarray]:
        """Yield images."""
        across = np.linspace(0, 6, self.side)
        for row in range(start, self.count):
            rng = np.random.default_rng([self.side, row])
            waves = [np.sin(rng.uniform(1, 3, 2)[:, None] * across + rng.uniform(0, 6, 2)[:, None]) for _ in range(3)]
            soft = np.stack([np.outer(*wave) for wave in waves], axis=-1) * 100 + 128
            yield (soft + rng.integers(-8, 8, soft.shape)).astype(np.uint8)


class AnonymousPeak(threading.Thread):
    """Watches the memory of this process that no file backs, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.running = 0.0, True

    def run(self) -> None:
        """Look every 50 ms."""
        while self.running:
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, int(status.partition("RssAnon:")[2].split()[0]) / 1024)
            time.sleep(0.05)


def generated_task(name: str, images: GeneratedImages, cache: str):
    """Build a task of generated images and three labels, split here."""
    from vitask.data.options import DataOptions
    from vitask.data.records import Records, records_task

    ids = [f"{name}-{row}" for row in range(len(images))]
    each = [[label] for label in LABELS]
    labels = [each[row % len(each)] for row in range(len(images))]
    options = DataOptions(cache_dir=cache, fractions=(0.98, 0.01, 0.01))
    return records_task(name, "noise", Records(name, ids, ids, images, labels), options)


def measure(gigabytes: float, members: int, cache: str) -> None:
    """Convert and stream once in this process; print the figures as JSON."""
    from vitask.data import mix, with_label_noise

    watch = AnonymousPeak()
    watch.start()
    started = time.perf_counter()
    count = round(gigabytes * 1e9 / (SIDE * SIDE * 3) / members)

    tasks = [
        with_label_noise(generated_task(f"generated{number}", GeneratedImages(count, number), cache), 0.1, seed=0)
        for number in range(members)
    ]
    task = mix("mixture", tasks) if members > 1 else tasks[0]
    converted = time.perf_counter()
    converting = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    images = task.splits["train"]["image"]
    order = np.random.default_rng(0).permutation(len(images))
    total = sum(np.asarray(images[int(row)])[0, 0, 0] >= 0 for row in order)
    streamed = time.perf_counter()
    watch.running = False
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"gigabytes": gigabytes, "members": members, "images": count * members, "streamed": int(total)}
    speeds = {"convert_per_s": count * members / (converted - started), "stream_per_s": total / (streamed - converted)}
    print(json.dumps({**figures, "converting_mb": converting, "peak_mb": peak, "anonymous_mb": watch.peak, **speeds}))


def compare_loader(side: int, cache: str, count: int = 600, rounds: int = 3) -> None:
    """Print images a second of reader and training loader beside those of a training step, rounds interleaved."""
    import torch

    from vitask.config.build import build_optimizer
    from vitask.config.compose import compose_config
    from vitask.training.vitask_task import VITask

    torch.set_num_threads(1)
    config = compose_config("train", ["stage=crt"])
    task = generated_task(f"drawn{side}", DrawnImages(count, side), cache)
    images, size = task.splits["train"]["image"], config.optim.batch_size
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    steps = [order[start : start + size] for start in range(0, len(order) - size, size)]
    vlm, objective, make_data = training_material(config, task)
    module = VITask(vlm, objective).train()
    optimizer = build_optimizer(config.optim, module)
    batches = list(loader(make_data(), steps[:12], 0))

    def step() -> None:
        for batch in batches:
            module(batch, module.counts(batch), 0.0)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    every = size * len(steps)
    jobs: dict[str, tuple[Callable[[], object], int]] = {
        "training step": (step, size * len(batches)),
        "reader": (lambda: [np.asarray(images[row]) for row in order], len(order)),
        "loader, 0 workers": (lambda: list(loader(make_data(), steps, 0)), every),
        "loader, 2 workers": (lambda: list(loader(make_data(), steps, 2)), every),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (run, _) in jobs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    rates = {name: number / median(seconds[name]) for name, (_, number) in jobs.items()}
    for name, rate in rates.items():
        times = [first / other for first, other in zip(seconds["training step"], seconds[name], strict=True)]
        ratio = median(times) * jobs[name][1] / jobs["training step"][1]
        print(f"{side} px, {name}: {rate:.0f} images/s, {ratio:.2f} times the training step")


def training_material(config, task):
    """Build the tiny VLM with stage 2's objective, and what makes a training split that holds no prompt yet."""
    import torch

    from vitask.config.build import build_instructions, build_negatives, build_objective, build_placement, build_vlm
    from vitask.runs.identity import term_weights
    from vitask.training.vitask_data import VITaskTrainingData
    from vitask.vlm.prompts import PromptTable

    width, train = 96, task.splits["train"]
    placement = build_placement(config.exemplar, 1)
    vlm, prompter = build_vlm(config, width, placement)
    vlm.connector.requires_grad_(config.stage.train_connector)
    responses = [prompter.response(answer.text) for answer in task.answers]
    objective = build_objective(config.objective, term_weights(config), responses)
    instruction = build_instructions(config.data, task)[0]

    def make_data():
        return VITaskTrainingData(
            task,
            PromptTable(train["image"], prompter, instruction),
            responses,
            objective.branches,
            placement=placement,
            exemplars=torch.randn(len(train), 1, width),
            negatives=build_negatives(config.objective.crt, task, seed=0),
        )

    return vlm, objective, make_data


def loader(data, steps: list[list[int]], workers: int):
    """Return the batches of some steps, as the training loop loads them."""
    from torch.utils.data import DataLoader

    return DataLoader(data, batch_sampler=data.keys(0, steps), collate_fn=data.collate, num_workers=workers)


def main() -> None:
    """Measure each size in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gigabytes", type=float, nargs="*")
    parser.add_argument("--members", type=int, default=4, help="data sets in the mixture")
    parser.add_argument("--cache", help="where the images go, and stay; by default a temporary folder")
    parser.add_argument("--loader", type=int, nargs="+", default=[], metavar="PIXELS", help="compare with a step")
    parser.add_argument("--here", action="store_true", help="measure in this process and print JSON")
    options = parser.parse_args()
    if options.here:
        measure(options.gigabytes[0], options.members, options.cache)
        return
    for side in options.loader:
        with tempfile.TemporaryDirectory() as scratch:
            compare_loader(side, options.cache or scratch)
    results = []
    for gigabytes in options.gigabytes:
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, __file__, str(gigabytes), f"--members={options.members}", "--here"]
            command += [f"--cache={options.cache or scratch}"]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(run.stdout.splitlines()[-1]))
            print(json.dumps(results[-1]), flush=True)
    for result in results[1:]:
        ratio = result["peak_mb"] / results[0]["peak_mb"]
        print(f"peak of {result['gigabytes']:g} GB / {results[0]['gigabytes']:g} GB: {ratio:.3f}")


if __name__ == "__main__":
    main()
