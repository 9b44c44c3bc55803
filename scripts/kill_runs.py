"""Kill training runs at random moments, resume each, and compare what it leaves with a run that nobody disturbed.

Every stage takes its turn, on one rank and on two: `python scripts/kill_runs.py --kills 50`. A rank is a fork of this
process, which has imported everything before, so that a kill costs the run itself and no more. Most kills come behind
the first step, at any moment until the end; of two ranks one is killed, then the other. Ends with 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

from vitask.cli.main import main as vitask
from vitask.runs import train_tsm, train_vlm  # noqa: F401  what a fork would import
from vitask.training.loop import Loop

BASE = (
    "data=digits", "data.train_fraction=0.04", "launch.device=cpu", "launch.save_every=1", "logger.every=1",
    "optim.epochs=2", "optim.batch_size=16", "optim.micro_batch_size=6", "tsm.optim.epochs=3",
    "tsm.optim.batch_size=16",
)  # fmt: skip
VARIANTS = {
    "tsm, averaged and mixed": ("stage=tsm", "tsm.ema=0.9", "tsm.mixup=0.4", "tsm.cutmix=1"),
    "ep": ("stage=ep", "objective.csa=1"),
    "crt, negatives of the data set": ("stage=crt",),
    "tsm": ("stage=tsm",),
    "vanilla": ("stage=vanilla",),
    "crt, negatives of the batch": ("stage=crt", "objective.crt.negatives=batch"),
    "crt, two ranks": ("stage=crt",),
    "ep, two ranks that share the model": ("stage=ep", "launch.shard=true"),
}
"""By name, overrides; what has two ranks in its name runs on two."""
WHILE_TRAINING = 0.75
"""The share of kills behind a run's first step; the others come while it loads, which takes longer than its steps."""


@dataclass
class Started:
    """The processes of a run, a rank each, and a pipe that says when it took its first step."""

    ranks: list[int]
    reader: int


@dataclass
class Variant:
    """One kind of run: how it is started, what was there before, its first step, its end, and what it leaves."""

    words: list[str]
    ranks: int
    folder: Path
    first: float = 0.0
    seconds: float = 0.0
    left: dict = field(default_factory=dict)


def main() -> int:
    """Do as many kills as asked for and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(asked.seed)
    began, resumes, different = time.perf_counter(), [], []
    with tempfile.TemporaryDirectory() as scratch:
        variants: dict[str, Variant] = {}
        number = early = 0
        while number < asked.kills:
            name = list(VARIANTS)[number % len(VARIANTS)]
            if name not in variants:
                variants[name] = prepare(name, Path(scratch))
            found = kill_and_resume(variants[name], Path(scratch) / "killed", draw)
            if found is None:  # it had ended before the kill came
                continue
            number += 1
            early += found["steps"] == 0
            resumes.append(found["resume"])
            if found["left"] != variants[name].left:
                different.append(f"kill {number}, {name}, after step {found['steps']}")
            print(f"kill {number}: {name}, {found['moment']}, {found['steps']} steps saved", flush=True)
    for line in different:
        print(f"DIFFERS: {line}")
    print(
        f"{asked.kills} kills over {len(variants)} kinds of runs, {early} of them before the first checkpoint: "
        f"{asked.kills - len(different)} ended bit for bit like the undisturbed run, {len(different)} did not. "
        f"Until a resumed run took its next step: median {statistics.median(resumes):.2f} s, "
        f"longest {max(resumes):.2f} s. {time.perf_counter() - began:.0f} s in all."
    )
    return bool(different)


def prepare(name: str, scratch: Path) -> Variant:
    """Train the stages that a variant starts from, then the undisturbed run beside them."""
    folder = scratch / name.replace(" ", "-")
    words = ["train", *BASE, f"cache={scratch / 'cache'}", *VARIANTS[name], f"out={folder}"]
    variant = Variant(words, 2 if "two ranks" in name else 1, folder)
    wait(start(words, variant.ranks))
    (run,) = folder.glob(f"digits/{VARIANTS[name][0].partition('=')[2]}-*")
    variant.left = what_is_left(run)
    shutil.rmtree(run)
    began = time.perf_counter()
    variant.first = wait(start(words, variant.ranks)) - began
    variant.seconds = time.perf_counter() - began
    if what_is_left(run) != variant.left:
        raise SystemExit(f"{name}: two undisturbed runs differ")
    shutil.rmtree(run)
    return variant


def kill_and_resume(variant: Variant, folder: Path, draw: random.Random) -> dict | None:
    """Kill a run at a random moment, start it again, and say what it leaves; None if the kill came too late."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(variant.folder, folder)
    before = set(folder.glob("*/*"))
    words = [*variant.words[:-1], f"out={folder}"]
    started = start(words, variant.ranks)
    trains = draw.random() < WHILE_TRAINING and bool(os.read(started.reader, 1))  # which waits for the first step
    moment = draw.uniform(0, variant.seconds - variant.first if trains else variant.first)
    time.sleep(moment)
    for process in draw.sample(started.ranks, variant.ranks):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    os.close(started.reader)
    made = set(folder.glob("*/*")) - before
    if any((run / "summary.json").exists() for run in made):
        return None
    steps = max((int(path.name[5:]) for run in made for path in run.glob("checkpoints/step-????????")), default=0)
    began = time.perf_counter()
    resumed = wait(start(words, variant.ranks))
    (run,) = set(folder.glob("*/*")) - before
    moment = f"{moment:.2f} s after its {'first step' if trains else 'start'}"
    return {"moment": moment, "steps": steps, "resume": resumed - began, "left": what_is_left(run)}


def start(words: list[str], ranks: int) -> Started:
    """Fork the ranks of a run."""
    reader, writer = os.pipe()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = []
    for rank in range(ranks):
        process = os.fork()
        if not process:
            os.close(reader)
            if ranks > 1:
                place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
            run_to_the_end(words, writer)
        processes.append(process)
    os.close(writer)
    return Started(processes, reader)


def run_to_the_end(words: list[str], writer: int) -> None:
    """Be a rank, write the moments of its steps into a pipe, and end."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    first, code = Loop._optimise, 0

    def optimise(loop: Loop, batches: list) -> dict:
        values = first(loop, batches)
        os.write(writer, f"{time.perf_counter()}\n".encode())
        return values

    Loop._optimise = optimise
    try:
        vitask(words)
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    os._exit(code or 0)


def wait(started: Started) -> float:
    """Wait for a run to end well; return the moment of its first step, or of its end if it took none."""
    with os.fdopen(started.reader) as pipe:
        moments = pipe.read().split()
    for process in started.ranks:
        _, status = os.waitpid(process, 0)
        if status:
            raise SystemExit(f"a run failed with status {status}")
    return float(moments[0]) if moments else time.perf_counter()


def what_is_left(run: Path) -> dict:
    """Every bit of a run's weights, and its log without what depends on the clock."""
    tensors = {
        f"{path.relative_to(run)}:{name}": tensor.numpy().tobytes()
        for path in sorted(run.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {**tensors, "log": [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines]}


if __name__ == "__main__":
    sys.exit(main())
