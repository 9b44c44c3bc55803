"""Resumable checkpoints: trainable tensors, optimiser, schedule and random states, written all or nothing."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vitask.errors import VitaskError
from vitask.files import checksum, flush, share

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS, STATE, CHECKSUMS = "trainable.safetensors", "state.pt", "checksums.json"


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
    """Numbered checkpoints in one folder, of which the newest intact ones are kept.

    A checkpoint is written beside its final name, flushed to disk and renamed, so a kill at any moment leaves the one
    before it intact. It holds the checksums of its own files: one that was damaged later is noticed and passed over.

    Args:
        folder: where they live; made on first use.
        keep: how many.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self.intact: list[Path] = []

    def latest(self) -> Path | None:
        """Return the newest complete checkpoint."""
        return next(iter(self._newest_first()), None)

    def save(self, step: int, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write the checkpoint of a step and drop those that are too old or damaged."""
        final = self.folder / f"step-{step:08d}"
        scratch = final.with_suffix(".tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            _write(scratch, weights, state)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap a full disk
            shutil.rmtree(scratch, ignore_errors=True)
            reason = " ".join(str(error).split())[:200]
            raise VitaskError(
                f"{final}: cannot write this checkpoint: {reason}; once it can be written, the same command goes on "
                "from the one before"
            ) from error
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
        flush(self.folder)
        self.intact = [*(path for path in self.intact if path != final), final][-self.keep :]
        for old in self.folder.iterdir():
            if old not in self.intact:
                shutil.rmtree(old, ignore_errors=True)

    def resume(self, module: nn.Module) -> dict[str, Any] | None:
        """Put the newest intact checkpoint into a module and return its state; None when there is no checkpoint.

        Raises:
            VitaskError: every checkpoint is damaged, or the newest intact one does not fit the module.
        """
        found = self._newest_first()
        for path in found:
            if (problem := _damage(path)) is None:
                self.intact = [path]
                return _load(path, module)
            warnings.warn(f"{path}: {problem}; going back to the checkpoint before it", RuntimeWarning, stacklevel=2)
        if found:
            raise VitaskError(f"{self.folder}: no checkpoint is intact; remove the folder to start over")
        return None

    def clear(self) -> None:
        """Remove all checkpoints, once a run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-????????"), reverse=True)


def _write(folder: Path, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    torch.save(state, folder / STATE)
    sums = {name: checksum(folder / name) for name in (WEIGHTS, STATE)}
    (folder / CHECKSUMS).write_text(json.dumps(sums))
    for path in folder.iterdir():
        share(path)
        flush(path)


def _damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint, if anything is."""
    try:
        sums = json.loads((path / CHECKSUMS).read_text())
        wrong = [name for name in (WEIGHTS, STATE) if sums[name] != checksum(path / name)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"damaged ({' '.join(str(error).split())[:200]})"
    return f"damaged ({' and '.join(wrong)} changed since it was written)" if wrong else None


def _load(path: Path, module: nn.Module) -> dict[str, Any]:
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
