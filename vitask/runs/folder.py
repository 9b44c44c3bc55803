"""A run folder explains itself: resolved config, versions, data fingerprint, log, result."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vitask.config.compose import checked
from vitask.config.schema import Config
from vitask.errors import UsageError, VitaskError
from vitask.files import atomic_writes, finite

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from vitask.data import TaskData

PACKAGES = ("vitask", "torch", "transformers", "peft", "accelerate", "timm", "datasets", "hydra-core", "numpy")
CONFIG, ENVIRONMENT, LOG, SUMMARY = "config.yaml", "environment.json", "log.jsonl", "summary.json"
LOCK = ".lock"

LABELS = "labels.json"
"""What an export may be asked; an export is no run, unless it is a bundle."""
FOR_OTHERS = (
    "an export for plain transformers and peft, whose README.md shows how to use it; vitask export to=bundle makes a "
    "folder that vitask asks"
)


class RunFolder:
    """One run on disk.

    Args:
        path: the folder; made by `begin`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end; the summary is written last."""
        return (self.path / SUMMARY).is_file()

    @property
    def checkpoints(self) -> Path:
        """Where the loop keeps what it resumes from."""
        return self.path / "checkpoints"

    @property
    def folds(self) -> Path:
        """Where a TSM run keeps what out-of-fold training resumes from."""
        return self.path / "folds"

    @property
    def tsm(self) -> Path:
        """Where a TSM run keeps its best model."""
        return self.path / "tsm"

    @property
    def model(self) -> Path:
        """Where a VLM run keeps adapter and connector."""
        return self.path / "model"

    @property
    def id(self) -> str:
        """What tells this run from one that was in the same folder before; of a part of a run, from the other parts."""
        began = self.path / ENVIRONMENT
        name = f"{self.path.parent.name}-{self.path.name}"
        return self.environment().get("id", name) if began.is_file() else name

    def begin(self, config: Config, task: TaskData) -> None:
        """Keep others from training this run until `release`, and write what it was started with.

        What an interrupted run was started with is compared instead.

        Raises:
            VitaskError: the data is not what it was when the run began, or another process trains this run.
        """
        if not len(task.splits["train"]):
            raise UsageError(
                f"{task.name} has no training images (data.fractions, data.splits); it can only be evaluated"
            )
        if is_main():
            self._take()
        if (self.path / ENVIRONMENT).is_file():
            self.check_data(task)
            return
        if not is_main():
            return
        write_config(self.path, config)
        environment = {
            "id": uuid.uuid4().hex[:12],
            "versions": {name: _version(name) for name in PACKAGES},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "data": {
                "name": task.name,
                "fingerprint": task.fingerprint,
                "notes": dict(task.notes),
                "counts": {split: len(rows) for split, rows in task.splits.items()},
            },
            "labels": list(task.labels),
        }
        write_json(self.path / ENVIRONMENT, environment)

    def _take(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise VitaskError(
                f"{self.path}: another process trains this run; give the same command again when it has ended"
            ) from error
        except OSError as error:
            raise VitaskError(
                f"{lock.lock_file}: cannot be locked: {error.strerror}; choose an out= on a file system with locks"
            ) from error
        self._lock = lock

    def release(self) -> None:
        """Let others train this run."""
        if self._lock is not None:
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def check_data(self, task: TaskData) -> None:
        """Raise a `VitaskError` if the data changed since the run began."""
        try:
            began = str(self.environment()["data"]["fingerprint"])
        except (KeyError, TypeError) as error:
            raise VitaskError(f"{self.path / ENVIRONMENT}: damaged: it holds no fingerprint of the data") from error
        if task.fingerprint != began:
            anew = "train again with overwrite=true" if self.finished else "remove the folder to start over"
            raise VitaskError(
                f"{self.path}: the data has changed since this run began (fingerprint {task.fingerprint[:12]}, was "
                f"{began[:12]}); put the data back, or {anew}"
            )

    def require_same_start(self, weights: Mapping[str, str | None]) -> None:
        """Note the digests of the weights that a run starts from, by name; those of an interrupted one are compared.

        Raises:
            VitaskError: others stand in their place since the run began.
        """
        if not is_main():
            return
        environment = self.environment()
        if (began := environment.get("weights")) is None:
            write_json(self.path / ENVIRONMENT, {**environment, "weights": dict(weights)})
            return
        for name, now in weights.items():
            if None not in (now, was := began.get(name)) and was != now:
                raise VitaskError(
                    f"{self.path}: the weights of {name} have changed since this run began (sha256 {now[:12]}, was "
                    f"{was[:12]}); put them back, or remove the folder to start over"
                )

    def withdraw(self) -> None:
        """Remove the folder of a run that ended before its first step; one that has something to go on from stays.

        So does one that another process trains.
        """
        if self._lock is None:
            return
        log = self.path / LOG
        logged = log.is_file() and log.stat().st_size > 0
        if not logged and not any(part.exists() for part in (self.checkpoints, self.folds, self.tsm)):
            shutil.rmtree(self.path, ignore_errors=True)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the run as finished and drop what it would have resumed from."""
        write_json(self.path / SUMMARY, summary)
        for part in (self.checkpoints, self.folds):
            shutil.rmtree(part, ignore_errors=True)

    def config(self) -> Config:
        """Read the resolved configuration.

        Raises:
            UsageError: the folder holds no run.
            VitaskError: its config is damaged.
        """
        path = self.path / CONFIG
        if not path.is_file():
            reason = f"no run there ({CONFIG} is missing); give a folder that vitask train wrote"
            raise UsageError(f"run={self.path}: {FOR_OTHERS if (self.path / LABELS).is_file() else reason}")
        try:
            return checked(Config, OmegaConf.load(path))
        except (UsageError, YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise VitaskError(f"{path}: damaged, or written by another version: {reason}") from error

    def environment(self) -> dict[str, Any]:
        """Read versions, data fingerprint and labels."""
        return read_json(self.path / ENVIRONMENT)

    def summary(self) -> dict[str, Any]:
        """Read the result of a finished run."""
        return read_json(self.path / SUMMARY)


class Stopwatch:
    """Wall time since it was made, in seconds."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def seconds(self) -> float:
        """Return the time that has passed."""
        return round(time.perf_counter() - self.started, 2)


def is_main() -> bool:
    """Whether this is the process that writes and prints; the others take part in training only."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_everyone() -> None:
    """Let all ranks come to this point before any goes on."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def own_rows(count: int) -> range:
    """Return the part of a split's rows that this rank has to look at; each row is in the part of one rank.

    Example:
        >>> own_rows(539)  # of a single process
        range(0, 539)
    """
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return range(count * rank // ranks, count * (rank + 1) // ranks)


def say(text: str) -> None:
    """Print a line, on the main process only."""
    if is_main():
        print(text, flush=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run.

    Raises:
        VitaskError: it is missing or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no table of values")
    except (OSError, ValueError) as error:
        raise VitaskError(f"{path}: missing or damaged: {error}") from error
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, all or nothing; JSON has no NaN and no infinity, so they become null."""
    write_text(path, json.dumps(finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_config(folder: Path, config: Config) -> None:
    """Write the resolved configuration of a run into its folder."""
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.structured(config)))


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing."""
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write text files that belong together: the first is put in place when all are on the disk."""
    atomic_writes({path: partial(Path.write_text, data=text, encoding="utf-8") for path, text in texts.items()})


def stage_summary(config: Config, watch: Stopwatch, steps: int, **results: Any) -> dict[str, Any]:
    """Collect what every finished run reports."""
    optim = config.tsm.optim if config.stage.name == "tsm" else config.optim
    return {"stage": config.stage.name, "seed": config.seed, "steps": steps, "seconds": watch.seconds(),
            "optim": asdict(optim), **results}  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
