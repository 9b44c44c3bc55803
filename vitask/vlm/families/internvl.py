"""InternVL in the native Hugging Face format (`OpenGVLab/InternVL*-hf`): InternViT, pixel shuffle, MLP, an LLM."""

from __future__ import annotations

from vitask.vlm.families.base import Family


class InternVL(Family):
    """The family of the paper's backbone; images are any number of tiles, `pixel_values (tiles, 3, H, W)`."""

    model_types = ("internvl",)
    language_model = "model.language_model"
    vision_tower = "model.vision_tower"
    projector = ("model.multi_modal_projector",)
