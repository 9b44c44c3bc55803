"""What trains and what does not: LoRA on the language model alone, everything else frozen unless asked."""

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


def add_lora(
    model: PreTrainedModel,
    family: Family,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: Iterable[str] | None = None,
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
    )
    with warnings.catch_warnings():  # peft asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


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
    """Count trainable tensors and parameters by part: LoRA, connector, vision tower, projector.

    Returns:
        `{part: (tensors, parameters)}` for the parts in which something trains.

    Raises:
        VitaskError: a parameter trains that belongs to none of the four parts.
    """
    tensors: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for name, parameter in vlm.named_parameters():
        if parameter.requires_grad:
            part = _part(name, vlm.family)
            tensors[part] += 1
            parameters[part] += parameter.numel()
    return {part: (tensors[part], parameters[part]) for part in tensors}


def _part(name: str, family: Family) -> str:
    if name.startswith("connector."):
        return "connector"
    if f".{family.language_model}." in name and ".lora_" in name:
        return "LoRA on the language model"
    if ".modules_to_save." in name:
        for part, paths in (("projector", family.projector), ("vision tower", (family.vision_tower,))):
            if any(f".{path}." in name for path in paths):
                return part
    raise VitaskError(f"parameter {name} would train, but belongs to no part that should")


def assert_trainable(vlm: ExemplarVLM, *, connector: bool, tower: bool, projector: bool) -> None:
    """Check that exactly the intended parameters train: every one of the named parts, and none besides.

    Raises:
        VitaskError: a parameter trains that should not, or one that should does not or is not there.
    """
    wanted = {"LoRA on the language model": True, "connector": connector, "vision tower": tower, "projector": projector}
    missing = {part for part, trains in wanted.items() if trains}
    for name, parameter in vlm.named_parameters():
        try:
            part = _part(name, vlm.family)
        except VitaskError:
            part = None
        missing.discard(part)
        should = wanted.get(part, False)
        if parameter.requires_grad != should:
            raise VitaskError(f"parameter {name} {'does not train but should' if should else 'trains but should not'}")
    if missing:
        raise VitaskError(f"{' and '.join(sorted(missing))} should train, but the model has no such parameters")
