"""MedMNIST files with the true keys, channels and labels of each set and generated pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROWS = 28  # two of every class of the set with the most, in every split


@pytest.fixture(scope="session")
def medmnist_root(tmp_path_factory) -> Path:
    from medmnist import INFO

    root = tmp_path_factory.mktemp("medmnist")
    rng = np.random.default_rng(0)
    for name, info in INFO.items():
        if "3d" in name:
            continue
        arrays, classes = {}, len(info["label"])
        for split in ("train", "val", "test"):
            shape = (ROWS, 28, 28, 3) if info["n_channels"] == 3 else (ROWS, 28, 28)
            labels = (np.arange(ROWS) % classes).astype(np.uint8)[:, None]
            if info["task"].startswith("multi-label"):
                labels = np.eye(classes, dtype=np.uint8)[labels[:, 0]]
                labels[-1] = 0
            arrays |= {f"{split}_images": rng.integers(256, size=shape, dtype=np.uint8), f"{split}_labels": labels}
        np.savez_compressed(root / f"{name}.npz", **arrays)
    return root


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
