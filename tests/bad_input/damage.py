"""What may happen to the files of a run: `crt/config.yaml` is a file of the run of stage crt."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Spoil = Callable[[Mapping[str, Any]], None]


def put(path: str, data: bytes | str) -> Spoil:
    """Overwrite a file."""
    return lambda runs: _none(_file(runs, path).write_bytes(data if isinstance(data, bytes) else data.encode()))


def half(path: str) -> Spoil:
    """Cut off the second half of a file."""

    def spoil(runs: Mapping[str, Any]) -> None:
        file = _file(runs, path)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return spoil


def drop(path: str) -> Spoil:
    """Remove a file or a folder."""

    def spoil(runs: Mapping[str, Any]) -> None:
        file = _file(runs, path)
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    return spoil


def folder_instead(path: str) -> Spoil:
    """Put a folder where a file is."""

    def spoil(runs: Mapping[str, Any]) -> None:
        drop(path)(runs)
        _file(runs, path).mkdir()

    return spoil


def swap(path: str, old: str, new: str) -> Spoil:
    """Replace a text in a file."""

    def spoil(runs: Mapping[str, Any]) -> None:
        file = _file(runs, path)
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    return spoil


def tensors(path: str, change: Callable[[dict], dict]) -> Spoil:
    """Change the tensors of a safetensors file."""

    def spoil(runs: Mapping[str, Any]) -> None:
        from safetensors.torch import load, save_file

        file = _file(runs, path)
        save_file(change(load(file.read_bytes())), file)

    return spoil


def _file(runs: Mapping[str, Any], path: str) -> Path:
    stage, _, inside = path.partition("/")
    return runs[stage] / inside


def _none(_: Any) -> None:
    return None
