"""Input settings of a TSM (size, normalisation, resizing): timm's for the model, with the user's overrides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.data import resolve_model_data_config
from torch import nn

from vitask.errors import UsageError, did_you_mean

KEYS = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")


def resolve_data_config(
    backbone: nn.Module, model_args: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return timm's data config of `backbone` as plain lists and numbers, `overrides` on top.

    `input_size` may be a side, `[H, W]` or `[C, H, W]`; left out, `model_args.img_size` decides. With one input
    channel timm's three-channel mean and std are averaged.

    Raises:
        UsageError: for an unknown setting, an impossible size, or a mean or std of the wrong length.

    Example:
        >>> resolve_data_config(timm.create_model("resnet18"), {}, {"input_size": 28})["input_size"]
        [3, 28, 28]
    """
    for key in overrides:
        if key not in KEYS:
            raise UsageError(f"unknown input setting '{key}', known: {', '.join(KEYS)}.{did_you_mean(key, KEYS)}")
    channels = model_args.get("in_chans", 3)
    asked = {key: value for key, value in overrides.items() if value is not None}
    size = asked.pop("input_size", model_args.get("img_size"))
    if size is not None:
        asked["input_size"] = _full_size(size, channels)
    for key in ("mean", "std"):
        if key in asked and len(asked[key]) not in (1, channels):
            raise UsageError(f"{key} needs one value for each of {channels} input channels, not {list(asked[key])}")
    config = resolve_model_data_config(backbone, args=asked)
    config["input_size"] = [channels, *config["input_size"][-2:]]
    for key in ("mean", "std"):
        values = list(config[key])
        config[key] = values if len(values) == channels else [sum(values) / len(values)] * channels
    return config


def _full_size(size: int | list[int], channels: int) -> list[int]:
    """Return `[C, H, W]` from a side, `[H, W]` or `[C, H, W]`."""
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) == 2:
        sides = [channels, *sides]
    if len(sides) != 3 or sides[0] != channels or min(sides) < 1:
        raise UsageError(f"input_size {size} does not fit {channels} input channels: give a side or [C, H, W]")
    return sides
