"""Idefics3 and SmolVLM: SigLIP tiles, each in its own run of placeholders between row and column tokens."""

from __future__ import annotations

from vitask.vlm.families.base import Family


class Idefics(Family):
    """Images are `pixel_values (1, tiles, 3, H, W)` and `pixel_attention_mask (1, tiles, H, W)`.

    The model leaves tiles out that are zero everywhere, which is what pads an image of fewer tiles.
    """

    model_types = ("idefics3", "smolvlm")
    language_model = "model.text_model"
    vision_tower = "model.vision_model"
    projector = ("model.connector",)
