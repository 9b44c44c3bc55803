"""One file a VLM family; `FAMILIES` is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitask.vlm.families.base import Family
from vitask.vlm.families.generic import Generic
from vitask.vlm.families.idefics import Idefics
from vitask.vlm.families.internvl import InternVL
from vitask.vlm.families.llava import Llava
from vitask.vlm.families.qwen_vl import Qwen3VL, QwenVL

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FAMILIES: tuple[type[Family], ...] = (InternVL, QwenVL, Qwen3VL, Llava, Idefics)


def family_for(model: PreTrainedModel) -> Family:
    """Return the family that serves a model, or a `Generic` one if none is registered; its `notice` then says so.

    Raises:
        UsageError: no family serves it, and it has not the form that a generic one could.
    """
    return _registered(model.config) or Generic(model)


def prompting_family(config: PretrainedConfig) -> Family:
    """Return the family that serves a model of this configuration, for prompts alone: that takes no weights."""
    return _registered(config) or Family()


def _registered(config: PretrainedConfig) -> Family | None:
    return next((family() for family in FAMILIES if config.model_type in family.model_types), None)


__all__ = [
    "FAMILIES",
    "Family",
    "Generic",
    "Idefics",
    "InternVL",
    "Llava",
    "Qwen3VL",
    "QwenVL",
    "family_for",
    "prompting_family",
]
