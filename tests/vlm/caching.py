"""A small split of ragged images, an encoder for them, and the call that caches what it gives."""

from __future__ import annotations

import torch

from vitask.vlm.image_cache import cached_image_features

COUNTS = [3, 1, 4, 1, 5, 9, 2]
SHAPE = (2, 3)


def make_inputs(counts=COUNTS):
    """One mapping an image, whose pixels tell image and token."""
    return [{"pixels": torch.tensor([[i + 1.0, token] for token in range(n)])} for i, n in enumerate(counts)]


def encode(inputs):
    pixels = torch.cat([one["pixels"] for one in inputs])
    return (pixels @ torch.arange(12.0).view(2, 6).sin()).view(-1, *SHAPE)


def no_encode(_):
    raise AssertionError("computed again")


def call(folder, encode=encode, inputs=None, counts=COUNTS, **options):
    options = {"key": {"weights": "a"}, "shape": SHAPE, "dtype": torch.float32, "budget_gb": 1.0, **options}
    inputs = make_inputs(counts) if inputs is None else inputs
    return cached_image_features(encode, inputs, counts, cache_dir=folder, **{"batch_size": 3, **options})


def files(folder):
    return sorted(folder.glob("*.safetensors"))


def unfinished(folder):
    return list(folder.glob(".*.tmp"))
