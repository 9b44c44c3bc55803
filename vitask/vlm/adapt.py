"""What trains and what does not: LoRA on the language model, or all of its weights; the rest is frozen unless asked."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

    from vitask.vlm.families import Family
    from vitask.vlm.model import ExemplarVLM

LORA, LANGUAGE_MODEL = "LoRA on the language model", "language model"


def add_lora(
    model: PreTrainedModel,
    family: Family,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: Iterable[str] | None = None,
    dora: bool = False,
    rslora: bool = False,
    train_tower: bool = False,
    train_projector: bool = False,
) -> PeftModel:
    """Freeze a VLM and put LoRA on its language model (paper, section 2: tower, projector and TSM stay frozen).

    Args:
        model: the Hugging Face model; its layers are adapted in place.
        family: where its language model, tower and projector are.
        rank: LoRA rank (not stated by the paper).
        alpha: LoRA scale numerator (not stated by the paper).
        dropout: LoRA dropout; 0 keeps teacher and student branches comparable.
        targets: names of the decoder's linear layers; `None` for the family's default.
        dora: learn the length of each weight's columns apart from their direction (DoRA, Liu et al., 2024).
        rslora: scale by alpha / sqrt(rank) instead of alpha / rank (rsLoRA, Kalajdzievski, 2023).
        train_tower: also train a full copy of the vision tower (the paper's VLM*).
        train_projector: also train a full copy of the VLM's own projector.

    Returns:
        An ordinary peft model: all that trains is saved and loaded by peft alone.

    Raises:
        UsageError: a target name matches no linear layer of the language model.
    """

    from peft import LoraConfig, get_peft_model

    names = tuple(targets or family.lora_targets)
    check_targets(model, family, names)
    whole = [
        *(path for part in family.projector if train_projector for path in whole_modules(model, part)),
        *(whole_modules(model, family.vision_tower, family.projector) if train_tower else ()),
    ]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"{re.escape(family.language_model)}\.(.*\.)?({'|'.join(map(re.escape, names))})",
        modules_to_save=whole or None,
        use_dora=dora,
        use_rslora=rslora,
    )
    with warnings.catch_warnings():  # peft asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


def train_fully(
    model: PreTrainedModel, family: Family, *, train_tower: bool = False, train_projector: bool = False
) -> PreTrainedModel:
    """Freeze a VLM but for all weights of its language model, output layer included: fine-tuning without an adapter.

    Args:
        model: the Hugging Face model, changed in place.
        family: where its parts are.
        train_tower: also train the vision tower.
        train_projector: also train the VLM's own projector.
    """
    model.requires_grad_(False)
    train = {LANGUAGE_MODEL: True, "vision tower": train_tower, "projector": train_projector}
    for name, part in _own_parts(model, family).items():
        model.get_parameter(name).requires_grad_(train[part])
    return model


def whole_modules(model: nn.Module, path: str, without: Sequence[str] = ()) -> list[str]:
    """Name the fewest modules that peft can copy and that hold all parameters of a part, without other parts inside."""
    from torch import nn

    module = model.get_submodule(path)
    if path in without or not any(True for _ in module.parameters()):
        return []
    if not isinstance(module, nn.ModuleList) and not any(other.startswith(f"{path}.") for other in without):
        return [path]
    return [part for name, _ in module.named_children() for part in whole_modules(model, f"{path}.{name}", without)]


def checkpoint_activations(model: PreTrainedModel, family: Family) -> None:
    """Let the language model keep one activation a layer and compute the others again in the backward pass."""
    decoder = model.get_submodule(family.language_model)
    renamed = getattr(decoder, "activation_checkpointing_enable", None)  # since transformers 5.23
    (renamed or decoder.gradient_checkpointing_enable)({"use_reentrant": False})


def check_targets(model: nn.Module, family: Family, names: Iterable[str]) -> None:
    """Raise a `UsageError` for a LoRA target that is no linear layer of the language model."""
    from torch import nn

    decoder = model.get_submodule(family.language_model)
    linear = {name.rsplit(".", 1)[-1] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    unknown = sorted(set(names) - linear)
    if unknown:
        raise UsageError(
            f"lora.targets: the language model has no linear layer named {', '.join(unknown)}; "
            f"it has {', '.join(sorted(linear))}"
        )


def trainable_groups(vlm: ExemplarVLM) -> dict[str, tuple[int, int]]:
    """Count trainable tensors and parameters by part: LoRA or language model, connector, vision tower, projector.

    Returns:
        `{part: (tensors, parameters)}` for the parts in which something trains.

    Raises:
        VitaskError: a parameter trains that belongs to none of these parts.
    """
    parts = _parts(vlm)
    tensors: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for name, parameter in vlm.named_parameters():
        if parameter.requires_grad:
            if (part := parts.get(name)) is None:
                raise VitaskError(f"parameter {name} would train, but belongs to no part that should")
            tensors[part] += 1
            parameters[part] += parameter.numel()
    return {part: (tensors[part], parameters[part]) for part in tensors}


def tower_parameters(vlm: ExemplarVLM) -> list[nn.Parameter]:
    """Return what trains of the vision tower, a projector inside it left out."""
    parts = _parts(vlm)
    return [p for name, p in vlm.named_parameters() if p.requires_grad and parts.get(name) == "vision tower"]


def _parts(vlm: ExemplarVLM) -> dict[str, str]:
    """Name the part of every parameter that may train."""
    if not is_adapted(vlm.vlm):
        whole = {f"vlm.{name}": part for name, part in _own_parts(vlm.vlm, vlm.family).items()}
        return {**whole, **{name: "connector" for name, _ in vlm.named_parameters() if name.startswith("connector.")}}
    found = {name: _adapted_part(name, vlm.family) for name, _ in vlm.named_parameters()}
    return {name: part for name, part in found.items() if part is not None}


def is_adapted(model: nn.Module) -> bool:
    """Say whether peft wraps a model."""
    return hasattr(model, "peft_config")


def _adapted_part(name: str, family: Family) -> str | None:
    if name.startswith("connector."):
        return "connector"
    if f".{family.language_model}." in name and ".lora_" in name:
        return LORA
    if ".modules_to_save." in name:
        for part, paths in (("projector", family.projector), ("vision tower", (family.vision_tower,))):
            if any(f".{path}." in name for path in paths):
                return part
    return None


def _own_parts(model: PreTrainedModel, family: Family) -> dict[str, str]:
    """Name the part of each of a bare model's own parameters; what belongs to none is left out."""
    output = model.get_output_embeddings()
    heads = [name for name, module in model.named_modules() if output is not None and module is output]
    places = [*((path, "projector") for path in family.projector), (family.vision_tower, "vision tower")]
    places += [(path, LANGUAGE_MODEL) for path in (family.language_model, *heads)]
    found = {}
    for name, _ in model.named_parameters():
        part = next((part for path, part in places if name.startswith(f"{path}.")), None)
        if part is not None:
            found[name] = part
    return found


def assert_trainable(vlm: ExemplarVLM, *, connector: bool, tower: bool, projector: bool, full: bool = False) -> None:
    """Check that exactly the intended parameters train: every one of the named parts, and none besides.

    Args:
        vlm: the model.
        connector: whether the connector should train.
        tower: whether the vision tower should.
        projector: whether the VLM's own projector should.
        full: whether the language model's own weights should, instead of LoRA on them.

    Raises:
        VitaskError: a parameter trains that should not, or one that should does not or is not there.
    """
    tuned = LANGUAGE_MODEL if full else LORA
    wanted = {tuned: True, "connector": connector, "vision tower": tower, "projector": projector}
    missing = {part for part, trains in wanted.items() if trains}
    parts = _parts(vlm)
    for name, parameter in vlm.named_parameters():
        part = parts.get(name)
        missing.discard(part)
        should = wanted.get(part, False)
        if parameter.requires_grad != should:
            raise VitaskError(f"parameter {name} {'does not train but should' if should else 'trains but should not'}")
    if missing:
        raise VitaskError(f"{' and '.join(sorted(missing))} should train, but the model has no such parameters")
