"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL: images of any size, and rotary positions in time, height and width (mRoPE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from vitask.vlm.families.base import Family, joined

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig


class QwenVL(Family):
    """Qwen2-VL and Qwen2.5-VL.

    Images are `pixel_values (patches, patch size)` and `image_grid_thw (1, 3)`, the patches in time, height and width.
    The merger, which is what other families call the projector, is part of the tower's module.
    """

    model_types = ("qwen2_vl", "qwen2_5_vl")
    language_model = "model.language_model"
    vision_tower = "model.visual"
    projector = ("model.visual.merger",)

    def positions(self, config: PretrainedConfig, ids: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """Number the tokens, `(3, T)`: text by 1 on all axes, the image's tokens by frame, row and column."""
        merge, first = config.vision_config.spatial_merge_size, ids.tolist().index(config.image_token_id)
        time, height, width = images["image_grid_thw"][0].tolist()
        axes = (torch.arange(time), torch.arange(height // merge), torch.arange(width // merge))
        return torch.cat([torch.arange(first).expand(3, -1), first + torch.cartesian_prod(*axes).T], dim=1)


class Qwen3VL(QwenVL):
    """Qwen3-VL, whose decoder also adds features of inner vision layers to its first layers (deepstack)."""

    model_types = ("qwen3_vl",)
    projector = ("model.visual.merger", "model.visual.deepstack_merger_list")

    def encode_images(self, model: nn.Module, images: Mapping[str, Tensor]) -> Tensor:
        """Return what takes the placeholders' places and, as further levels, what the decoder's layers add to it."""
        out = model.get_image_features(**images)
        return torch.stack([joined(level) for level in (out.pooler_output, *out.deepstack_features)], dim=1)

    def decoder_options(self, places: Tensor, levels: Tensor) -> dict[str, Any]:
        """Return where the decoder adds the levels, and the levels, one a layer."""
        return {"visual_pos_masks": places, "deepstack_visual_embeds": list(levels.unbind(1))}
