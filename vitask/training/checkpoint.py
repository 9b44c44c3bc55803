"""Resumable checkpoints: trainable tensors, optimiser, schedule and random states, written all or nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from vitask.errors import VitaskError

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS, STATE = "trainable.safetensors", "state.pt"


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training changes: trainable parameters and the buffers of modules that hold some."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    changing = {name.rpartition(".")[0] for name, parameter in module.named_parameters() if parameter.requires_grad}
    parameters = dict(module.named_parameters())
    return {
        name: tensor.detach()
        for name, tensor in module.state_dict().items()
        if name not in frozen and (name in parameters or name.rpartition(".")[0] in changing)
    }


class Checkpoints:
    """Numbered checkpoints in one folder, of which the newest complete one is kept.

    A checkpoint is written beside its final name, flushed to disk and renamed, so a kill at any moment leaves the one
    before it intact.

    Args:
        folder: where they live; made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def latest(self) -> Path | None:
        """Return the newest complete checkpoint."""
        found = sorted(self.folder.glob("step-????????"))
        return found[-1] if found else None

    def save(self, step: int, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write the checkpoint of a step and drop the older ones."""
        final = self.folder / f"step-{step:08d}"
        scratch = final.with_suffix(".tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, scratch / WEIGHTS)
        torch.save(state, scratch / STATE)
        for path in scratch.iterdir():
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
        _flush(self.folder)
        for old in self.folder.iterdir():
            if old != final:
                shutil.rmtree(old, ignore_errors=True)

    def load(self, path: Path, module: nn.Module) -> dict[str, Any]:
        """Put a checkpoint's tensors into a module and return its state.

        Raises:
            VitaskError: the checkpoint is damaged or does not fit the module.
        """
        try:
            weights = load_file(path / WEIGHTS)
            state = torch.load(path / STATE, map_location="cpu", weights_only=True)
            wanted = trainable_state(module).keys()
            if weights.keys() != wanted:
                raise ValueError(f"tensors differ: {sorted(weights.keys() ^ wanted)[:3]}")
            module.load_state_dict(weights, strict=False)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise VitaskError(
                f"{path}: cannot resume from this checkpoint ({reason}); remove the folder to start over"
            ) from error
        return state

    def clear(self) -> None:
        """Remove all checkpoints, once a run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
