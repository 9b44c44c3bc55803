"""What can be written on a command line: the keys of each verb, and the config groups with their options."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from vitask.config import schema
from vitask.errors import UsageError

ROOTS = {
    "train": schema.Config,
    "evaluate": schema.EvaluateConfig,
    "predict": schema.PredictConfig,
    "export": schema.ExportConfig,
    "demo_ui": schema.DemoUIConfig,
    "compare": schema.CompareConfig,
    "bench": schema.BenchConfig,
    "report": schema.ReportConfig,
}
PACKAGE = "vitask.configs"
LAUNCHER = "accelerate"
"""The folder of files for `accelerate launch`, which no run is composed of."""
OWN_FOLDER = "VITASK_CONFIG_DIR"
"""Names a folder of the user's own groups. `--config-dir` sets it in the environment; worker processes inherit it."""


def groups() -> dict[str, list[str]]:
    """List the config groups and their options, as they are on disk; the user's own come after the shipped ones."""
    found: dict[str, dict[str, None]] = {}
    for root in folders():
        for folder in sorted(root.iterdir(), key=lambda folder: folder.name):
            if folder.is_dir() and not folder.name.startswith(("_", ".")) and folder.name != LAUNCHER:
                options = sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml"))
                found.setdefault(folder.name, {}).update(dict.fromkeys(o for o in options if o != "base"))
    return {name: list(options) for name, options in found.items() if options}


def folders() -> list[Any]:
    """The folders that hold groups: the shipped one, then the user's own."""
    return [files(PACKAGE), *own_folder()]


def own_folder() -> list[Path]:
    """The folder of the user's own groups, if there is one.

    Raises:
        UsageError: it is named and not there.
    """
    if not (name := os.environ.get(OWN_FOLDER)):
        return []
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(f"--config-dir {name}: no such folder")
    return [folder]


@cache
def typed_keys(root: str) -> dict[str, Any]:
    """Map every dotted key of a root to its type."""
    return dict(_walk(ROOTS[root], ""))


def _walk(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for entry in fields(kind):
        hint = hints[entry.name]
        name = f"{prefix}{entry.name}"
        yield name, hint
        if is_dataclass(hint):
            yield from _walk(hint, f"{name}.")
