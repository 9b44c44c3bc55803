"""Pixels for a TSM: timm's transforms, with only the augmentation that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms import Compose

from vitask.errors import UsageError, did_you_mean

NO_AUGMENTATION = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0, "vflip": 0.0, "color_jitter": None}
AUGMENT_KEYS = (
    *NO_AUGMENTATION,
    "train_crop_mode",
    "color_jitter_prob",
    "grayscale_prob",
    "gaussian_blur_prob",
    "auto_augment",
    "re_prob",
    "re_mode",
    "re_count",
)


class ToMode:
    """Convert a PIL image to `mode` (`RGB` or `L`)."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return `image` in the wanted mode."""
        return image if image.mode == self.mode else image.convert(self.mode)

    def __repr__(self) -> str:
        return f"ToMode({self.mode})"


def build_transform(
    data_config: Mapping[str, Any], augment: Mapping[str, Any] | None, training: bool
) -> Callable[[Image.Image], Tensor]:
    """Return the function from a PIL image to float32 pixels `(C, H, W)` for a TSM with this `data_config`.

    `augment` holds keyword arguments of `timm.data.create_transform`; what it does not name stays off (timm's own
    default would crop down to 8 % of the image and jitter colours). Without training or augmentation it is timm's
    evaluation transform.

    Raises:
        UsageError: for an augmentation key that timm does not have, or a value that it refuses.

    Example:
        >>> build_transform(tsm.data_config, {"hflip": 0.5, "scale": [0.8, 1.0]}, training=True)(image).shape
        torch.Size([3, 28, 28])
    """
    for key in augment or {}:
        if key not in AUGMENT_KEYS:
            raise UsageError(
                f"unknown augmentation '{key}', known: {', '.join(AUGMENT_KEYS)}.{did_you_mean(key, AUGMENT_KEYS)}"
            )
    options = {**NO_AUGMENTATION, **augment} if training and augment else {}
    try:
        transform = create_transform(**data_config, is_training=bool(options), **options)
    except (AssertionError, TypeError, ValueError) as error:
        raise UsageError(f"timm refuses the augmentation {dict(augment or {})}: {error}") from error
    _keep_one_bit(transform)
    return Compose([ToMode("L" if data_config["input_size"][0] == 1 else "RGB"), *transform.transforms])


def _keep_one_bit(transform: Compose) -> None:
    """Make timm's RandAugment and AugMix posterize to one bit where they ask for none: Pillow refuses zero bits."""
    for step in transform.transforms:
        for op in getattr(step, "ops", ()):
            if op.name.startswith("Posterize"):
                op.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    return ImageOps.posterize(image, max(1, bits)) if bits < 8 else image


def describe_transform(transform: Callable[[Image.Image], Tensor]) -> str:
    """Return a text that differs whenever two transforms differ: every step with its settings, tensors in full.

    Example:
        >>> describe_transform(build_transform(tsm.data_config, None, training=False))
        "[ToMode(RGB) {'mode': 'RGB'}, Resize(size=28, ...]"
    """
    if hasattr(transform, "transforms"):
        return f"[{', '.join(describe_transform(step) for step in transform.transforms)}]"
    settings = sorted(vars(transform).items())
    plain = {name: value.tolist() if torch.is_tensor(value) else value for name, value in settings}
    return f"{transform!r} {plain!r}"
