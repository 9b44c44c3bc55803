"""LLaVA: a CLIP or SigLIP tower, an MLP, an LLM; one image a picture, or a base image and tiles of any resolution."""

from __future__ import annotations

from vitask.vlm.families.base import Family


class Llava(Family):
    """LLaVA-1.5: `pixel_values (1, 3, H, W)`. LLaVA-NeXT, -OneVision: `(1, tiles, 3, H, W)` and `image_sizes (1, 2)`.

    The model itself leaves out padded tiles, cuts the padding off the others' features, and puts the embedding of a new
    line (`image_newline`, which stays frozen) behind each row.
    """

    model_types = ("llava", "llava_next", "llava_onevision")
    language_model = "model.language_model"
    vision_tower = "model.vision_tower"
    projector = ("model.multi_modal_projector",)
