"""Overrides that make an experiment small."""

from __future__ import annotations

import pytest


@pytest.fixture
def tiny_parts(medmnist_root) -> list[str]:
    """Overrides that put tiny models and generated images in the place of the paper's."""
    return [
        f"data.root={medmnist_root}",
        "data.size=28",
        "vlm.path=tiny",
        "tsm.name=vit_tiny_patch16_224",
        "tsm.pretrained=false",
        "tsm.model_args={img_size: 32, patch_size: 8, depth: 2, embed_dim: 32, num_heads: 2}",
        "tsm.input.input_size=32",
    ]
