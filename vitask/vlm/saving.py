"""A tuned VLM on disk: a peft adapter or the tuned weights themselves, the connector, and a short description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vitask.errors import VitaskError
from vitask.files import atomic_folder, remove_leftovers, sampled_digest
from vitask.vlm.adapt import is_adapted
from vitask.vlm.model import put_weights

if TYPE_CHECKING:
    from torch import nn

    from vitask.vlm.model import ExemplarVLM

ADAPTER, WEIGHTS = "adapter", "weights.safetensors"
CONNECTOR, HEAD, DESCRIPTION = "connector.safetensors", "head.safetensors", "vitask.json"


def save_vlm(vlm: ExemplarVLM, folder: Path, description: Mapping[str, Any], *, head: nn.Module | None = None) -> None:
    """Write what training changed, all or nothing.

    `folder/adapter` is a plain peft adapter: all that inference without exemplar needs. Of a model that was tuned
    without one, `weights.safetensors` holds every weight that trained. `connector.safetensors` and `head.safetensors`
    are written when there is a connector, or a linear head; `vitask.json` holds the description.
    """
    remove_leftovers(folder.parent, folder.name)
    with atomic_folder(folder) as scratch:
        _write(scratch, vlm, description, head)


def _write(folder: Path, vlm: ExemplarVLM, description: Mapping[str, Any], head: nn.Module | None) -> None:
    if is_adapted(vlm.vlm):
        vlm.vlm.save_pretrained(folder / ADAPTER, save_embedding_layers=False)
    else:
        state = {name: weight.detach().cpu().contiguous() for name, weight in _tuned_weights(vlm.vlm).items()}
        save_file(state, folder / WEIGHTS)
    for module, name in ((vlm.connector, CONNECTOR), (head, HEAD)):
        if module is not None:
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
            save_file(state, folder / name)
    (folder / DESCRIPTION).write_text(json.dumps(dict(description), indent=2) + "\n")


def base_digest(model: nn.Module) -> str:
    """Return a digest of a VLM's weights before tuning, by which they are known again."""
    return sampled_digest(dict(model.named_parameters()))


def load_weights(vlm: ExemplarVLM, folder: Path) -> None:
    """Load adapter or weights, and the connector if the VLM has one, into a VLM built like the one that was saved.

    Raises:
        VitaskError: a file is missing or damaged, or was saved from another architecture.
    """
    (_load_adapter if is_adapted(vlm.vlm) else _load_tuned)(vlm, folder)
    if vlm.connector is not None:
        _load_module(vlm.connector, folder / CONNECTOR)


def _tuned_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that train, each once, under the first of its names."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _load_tuned(vlm: ExemplarVLM, folder: Path) -> None:
    if not (folder / WEIGHTS).is_file():
        raise VitaskError(f"{folder} holds no weights of a tuned VLM; train the stage that should have written them")
    try:
        weights = load_file(folder / WEIGHTS)
        if odd := sorted(weights.keys() ^ _tuned_weights(vlm.vlm).keys()):
            raise ValueError(f"it does not match on {odd[0]}")
        put_weights(vlm.vlm, weights)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise _misfit(folder / WEIGHTS, error) from error


def _load_adapter(vlm: ExemplarVLM, folder: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from peft.utils import SAFETENSORS_WEIGHTS_NAME, load_peft_weights

    if not (folder / ADAPTER / "adapter_config.json").is_file():
        raise VitaskError(f"{folder} holds no tuned VLM; train the stage that should have written it")
    if not (folder / ADAPTER / SAFETENSORS_WEIGHTS_NAME).is_file():  # peft would look for it on the hub
        raise _misfit(folder / ADAPTER, f"{SAFETENSORS_WEIGHTS_NAME} is missing")
    try:
        weights = load_peft_weights(str(folder / ADAPTER), device="cpu")
        wanted = get_peft_model_state_dict(vlm.vlm, save_embedding_layers=False)
        if odd := sorted(weights.keys() ^ wanted.keys()):
            raise ValueError(f"it does not match on {odd[0]}")
        set_peft_model_state_dict(vlm.vlm, weights)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise _misfit(folder / ADAPTER, error) from error


def load_head(head: nn.Module, folder: Path) -> None:
    """Load a linear head into one of the same shape.

    Raises:
        VitaskError: the file is missing or damaged, or was saved from another architecture.
    """
    _load_module(head, folder / HEAD)


def _load_module(module: nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise _misfit(path, error) from error


def _misfit(path: Path, reason: object) -> VitaskError:
    text = " ".join(str(reason).split())[:300]
    return VitaskError(f"{path}: damaged, or saved from another architecture than this configuration builds: {text}")
