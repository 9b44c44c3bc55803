"""What `vitask doctor` looks at beside the run itself: versions, packages, the device, disk space."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.utils.versions import require_version

from vitask.runs.findings import Finding, in_bytes, note, ok, wrong

if TYPE_CHECKING:
    from vitask.config.schema import LaunchConfig


@dataclass(frozen=True)
class Needs:
    """Bytes that a run will write.

    Attributes:
        out: into run folders.
        cache: into the cache.
    """

    out: int = 0
    cache: int = 0

    def __add__(self, other: Needs) -> Needs:
        return Needs(self.out + other.out, self.cache + other.cache)


def package_findings(tracker: str) -> Iterator[Finding]:
    """Hold the installed packages against what vitask declares, and look for the tracker that was asked for."""
    try:
        declared = [line.split(";")[0].strip() for line in requires("vitask") or () if "extra ==" not in line]
    except PackageNotFoundError:
        yield note("packages", "vitask is not installed, so its requirements are not known; pip install -e .")
        return
    problems = [problem for line in declared if (problem := _unmet(line))]
    if problems:
        yield wrong("packages", f"{'; '.join(problems)}: pip install -U 'vitask'")
    else:
        yield ok("packages", f"all {len(declared)} within their ranges; torch {torch.__version__}, transformers "
                 f"{version('transformers')}, Python {sys.version.split()[0]}")  # fmt: skip
    if tracker != "none" and find_spec(tracker) is None:
        yield wrong("logger", f"logger.tracker={tracker}: the package is not installed; pip install {tracker}")


def _unmet(line: str) -> str | None:
    """What is wrong with one requirement, if anything is."""
    try:
        require_version(line)
    except PackageNotFoundError:
        return f"{line} is not installed"
    except ImportError as error:
        return str(error).splitlines()[0]
    return None


def device_finding(launch: LaunchConfig) -> Finding:
    """Say where the run computes."""
    if torch.cuda.is_available() and launch.device != "cpu":
        free, total = torch.cuda.mem_get_info()
        return ok("device", f"{torch.cuda.get_device_name()}, {in_bytes(free)} of {in_bytes(total)} free")
    text = f"CPU, {torch.get_num_threads()} threads, precision {launch.precision}"
    return ok("device", text) if launch.device == "cpu" else note("device", f"{text}; there is no GPU")


def disk_findings(out: str, cache: str, needs: Needs) -> Iterator[Finding]:
    """Hold what a run will write against the free space, and see whether it may write there."""
    for key, path, wanted in (("out", out, needs.out), ("cache", cache, needs.cache)):
        folder = _nearest(Path(path).expanduser())
        if not folder.is_dir():
            yield wrong("disk", f"{key}={path}: {folder} is a file, not a folder")
            continue
        if not os.access(folder, os.W_OK | os.X_OK):
            yield wrong("disk", f"{key}={path}: {folder} cannot be written to")
            continue
        free = shutil.disk_usage(folder).free
        text = f"{key}={path}: {in_bytes(free)} free, about {in_bytes(wanted)} needed"
        yield ok("disk", text) if free > wanted else wrong("disk", f"{text}: make room, or choose another {key}=")


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest of its parents that exists."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
