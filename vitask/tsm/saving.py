"""A trained TSM on disk: `tsm.safetensors` (weights) and `tsm.json` (architecture, labels, the weights' digest)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vitask.errors import VitaskError
from vitask.files import atomic_write, tensors_digest
from vitask.tsm.model import TSM

WEIGHTS, SETTINGS = "tsm.safetensors", "tsm.json"


def save_tsm(tsm: TSM, folder: str | Path, meta: Mapping[str, Any]) -> str:
    """Write `tsm` and `meta` (labels, data set, figures: whatever JSON can hold) to `folder`; return `weights_digest`.

    The settings are written last and hold the digest of the weights, so a save that was cut off is noticed on loading.

    Example:
        >>> save_tsm(tsm, "runs/tsm", {"labels": ["normal", "pneumonia"]})
    """
    settings = {**tsm.architecture, "meta": dict(meta), "weights_digest": weights_digest(tsm)}
    text = json.dumps(settings, indent=2)
    state = {name: value.detach().cpu().contiguous() for name, value in tsm.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / WEIGHTS, lambda path: save_file(state, path))
    atomic_write(folder / SETTINGS, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return settings["weights_digest"]


def load_tsm(folder: str | Path, expected: Mapping[str, Any] | None = None) -> tuple[TSM, dict[str, Any]]:
    """Read what `save_tsm` wrote: the TSM (on the CPU, in evaluation mode) and its `meta`.

    Args:
        folder: where the two files are.
        expected: what the caller relies on, by key of the architecture or of `meta`: `{"num_classes": 2}`.

    Raises:
        VitaskError: when a file is absent or damaged, or differs from what is expected; the message names what differs.

    Example:
        >>> tsm, meta = load_tsm("runs/tsm", {"labels": ["normal", "pneumonia"]})
    """
    folder = Path(folder)
    settings = _read_settings(folder)
    meta = settings["meta"]
    for key, wanted in (expected or {}).items():
        found = settings.get(key, meta.get(key))
        if found != json.loads(json.dumps(wanted)):
            raise VitaskError(f"the TSM in '{folder}' has {key} {found!r}, this run needs {wanted!r}")
    tsm = TSM(
        settings["name"],
        settings["num_classes"],
        model_args=settings["model_args"],
        data_config=settings["data_config"],
    )
    _load_weights(tsm, folder)
    if weights_digest(tsm) != settings["weights_digest"]:
        raise VitaskError(f"'{folder / WEIGHTS}' is not the file that {SETTINGS} was written for: save the TSM again")
    return tsm.eval(), meta


def weights_digest(tsm: TSM) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes of every weight and buffer."""
    return tensors_digest(tsm.state_dict())


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VitaskError(f"no TSM in '{folder}': {SETTINGS} is absent, train it first") from error
    except ValueError as error:
        raise VitaskError(f"'{path}' is damaged: {error}") from error
    needed = {"name", "model_args", "num_classes", "data_config", "meta", "weights_digest"}
    if not isinstance(settings, dict) or not needed <= settings.keys():
        raise VitaskError(f"'{path}' is not the settings of a TSM: it needs {', '.join(sorted(needed))}")
    return settings


def _load_weights(tsm: TSM, folder: Path) -> None:
    path = folder / WEIGHTS
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise VitaskError(f"'{path}' is absent or damaged: {error}") from error
    own = tsm.state_dict()
    differing = sorted(name for name in own.keys() | state.keys() if _shape(own, name) != _shape(state, name))
    if differing:
        name = differing[0]
        raise VitaskError(
            f"'{path}' is not a {tsm.name} with {tsm.num_classes} labels: {len(differing)} weights differ, "
            f"first '{name}' (file {_shape(state, name)}, model {_shape(own, name)})"
        )
    tsm.load_state_dict(state)


def _shape(state: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None
