"""How a VLM is loaded, alone or for its prompts, and what of it trains: an adapter, or the language model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vitask.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, ProcessorMixin

    from vitask.config import schema
    from vitask.vlm.families import Family
    from vitask.vlm.prompts import Prompter


def check_tuning(lora: schema.LoraConfig) -> None:
    """Raise a `UsageError` if options contradict each other, or need what is not installed."""
    from vitask.vlm.load import require_bitsandbytes

    asked = {"dora=true": lora.dora, "rslora=true": lora.rslora, "quantize=nf4": lora.quantize != "none"}
    if lora.tune == "all" and any(asked.values()):
        key = next(key for key, given in asked.items() if given)
        raise UsageError(f"lora.tune=all trains the weights themselves, without an adapter; leave lora.{key} out")
    if lora.quantize != "none":
        require_bitsandbytes()


def load_base(config: schema.Config, *, dequantize: bool = False) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load the VLM of a run as it is before anything is tuned; for `dequantize` see `load_pretrained`.

    Raises:
        UsageError: options of `lora` contradict each other.
    """
    from vitask.vlm.load import load_pretrained

    check_tuning(config.lora)
    vlm = config.vlm
    return load_pretrained(
        vlm.path,
        revision=vlm.revision,
        dtype=vlm.dtype,
        attention=vlm.attention,
        trust_remote_code=vlm.trust_remote_code,
        quantize=config.lora.quantize,
        dequantize=dequantize,
    )


def choose_trainable(config: schema.Config, model: PreTrainedModel, family: Family) -> nn.Module:
    """Put an adapter on a model, or let its language model train as it is; everything else is frozen."""
    from vitask.vlm.adapt import add_lora, train_fully

    lora, vlm = config.lora, config.vlm
    if lora.tune == "all":
        return train_fully(model, family, train_tower=vlm.train_tower, train_projector=vlm.train_projector)
    return add_lora(
        model,
        family,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        targets=lora.targets,
        dora=lora.dora,
        rslora=lora.rslora,
        train_tower=vlm.train_tower,
        train_projector=vlm.train_projector,
    )


def original_weights(config: schema.Config, family: Family) -> Callable[[], dict[str, Tensor]] | None:
    """Return what reads the weights of before tuning, if tuning replaces them; an adapter can be switched off."""
    if config.lora.tune != "all":
        return None

    def read() -> dict[str, Tensor]:
        model = choose_trainable(config, load_base(config)[0], family)
        return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}

    return read


def build_prompter(vlm: schema.VLMConfig) -> Prompter:
    """Load what turns images and instructions into tokens; no weights are read.

    Raises:
        VitaskError: the processor cannot be loaded, or has no chat template.
    """
    from vitask.vlm.families import prompting_family
    from vitask.vlm.load import load_processor
    from vitask.vlm.prompts import Prompter

    config, processor = load_processor(vlm.path, revision=vlm.revision, trust_remote_code=vlm.trust_remote_code)
    return Prompter(processor, prompting_family(config), config, vlm.image_options)
