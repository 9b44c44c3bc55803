"""InternVL in the native Hugging Face format (`OpenGVLab/InternVL*-hf`): InternViT, pixel shuffle, MLP, an LLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vitask.vlm.families.base import Family

if TYPE_CHECKING:
    from torch import Tensor, nn


class InternVL(Family):
    """The family of the paper's backbone."""

    model_types = ("internvl",)
    language_model = "model.language_model"
    vision_tower = "model.vision_tower"
    projector = "model.multi_modal_projector"

    def encode_images(self, model: nn.Module, images: Mapping[str, Tensor]) -> Tensor:
        """Encode tiles `pixel_values (tiles, 3, H, W)` into `(tiles * tokens per tile, D)`."""
        return model.get_image_features(pixel_values=images["pixel_values"]).pooler_output.flatten(0, 1)
