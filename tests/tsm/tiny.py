"""Tiny TSMs of four layouts."""

from __future__ import annotations

import torch

from vitask.tsm import TSM

TINY_VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2}
TINY = {
    "resnet": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 96]}),
    "vit": ("vit_tiny_patch16_224", TINY_VIT),
    "vit_without_cls": ("vit_medium_patch16_gap_240", TINY_VIT),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2]},
    ),
}


def make_tsm(layout: str = "resnet", num_classes: int = 3, seed: int = 0, **options) -> TSM:
    torch.manual_seed(seed)
    name, model_args = TINY[layout]
    return TSM(name, num_classes, model_args=model_args, data_config={"input_size": 32, "crop_pct": 1.0}, **options)
