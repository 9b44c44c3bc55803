"""A model without a family of its own that has the form most Hugging Face image-text-to-text models share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitask.errors import UsageError
from vitask.vlm.families.base import Family

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LANGUAGE = ("language_model", "text_model")
TOWER = ("vision_tower", "vision_model", "visual", "vision_encoder", "image_encoder")
PROJECTOR = ("multi_modal_projector", "connector", "projector", "mm_projector", "vision_projector", "aligner", "merger")


class Generic(Family):
    """Finds a model's parts by their usual names.

    Args:
        model: an image-text-to-text model.

    Raises:
        UsageError: the model has not the common form; the message says in what it differs.
    """

    model_types = ()

    def __init__(self, model: PreTrainedModel) -> None:
        kind = model.config.model_type
        language = _find(model, ("model",), LANGUAGE)
        tower = _find(model, ("model",), TOWER)
        projector = _find(model, ("model", tower) if tower else ("model",), PROJECTOR)
        inputs = inspect.signature(model.forward).parameters
        inner = inspect.signature(model.get_submodule(language).forward).parameters if language else ()
        differences = {
            "no model.language_model": language is None,
            "no vision tower under a usual name": tower is None,
            "no projector under a usual name": projector is None,
            "no get_image_features": not hasattr(model, "get_image_features"),
            "no image_token_id": getattr(model.config, "image_token_id", None) is None,
            "an encoder and a decoder": bool(getattr(model.config, "is_encoder_decoder", False)),
            "positions on several axes": hasattr(getattr(model, "model", None), "get_rope_index"),
            "token types in its inputs": not {"token_type_ids", "mm_token_type_ids"}.isdisjoint(inputs),
            "image features inside the decoder": "visual_pos_masks" in inner,
        }
        if reasons := [reason for reason, holds in differences.items() if holds]:
            raise UsageError(
                f"vlm.path: model type '{kind}' needs a family of its own ({'; '.join(reasons)}); "
                "CONTRIBUTING.md says how to add one"
            )
        self.language_model, self.vision_tower, self.projector = language, tower, (projector,)
        self.notice = (
            f"vlm.path: model type '{kind}' has no family of its own; it is read as language model {language}, "
            f"vision tower {tower}, projector {projector}"
        )


def _find(model: nn.Module, parents: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the path of the first child with one of the names."""
    found = dict(model.named_modules())
    return next((path for parent in parents for name in names if (path := f"{parent}.{name}") in found), None)
