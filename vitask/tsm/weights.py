"""Backbone weights from a local timm-style file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from timm.models import load_checkpoint
from torch import nn

from vitask.errors import VitaskError


def load_backbone_weights(backbone: nn.Module, path: str) -> None:
    """Load `path` (safetensors, or a torch file of tensors) into `backbone`; a head of another size is left out.

    timm's own filter of the architecture runs first, so position embeddings are resized as timm resizes them.

    Raises:
        VitaskError: when the file is absent, unreadable, or its weights are not those of this architecture.
    """
    if not Path(path).is_file():
        raise VitaskError(f"no TSM weights at '{path}'")
    heads = backbone.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)

    def keep_fitting(state: dict[str, Any], model: nn.Module) -> dict[str, Any]:
        timm_filter = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        state = timm_filter(state, model) if timm_filter else state
        own = model.state_dict()
        return {
            name: value
            for name, value in state.items()
            if not (_is_head(name, heads) and name in own and value.shape != own[name].shape)
        }

    try:
        keys = load_checkpoint(backbone, str(path), strict=False, filter_fn=keep_fitting, weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise VitaskError(f"'{path}' does not load into this backbone: {reason}") from error
    missing = [name for name in keys.missing_keys if not _is_head(name, heads)]
    strange = [name for name in keys.unexpected_keys if not _is_head(name, heads)]
    if missing or strange:
        raise VitaskError(
            f"'{path}' holds weights of another architecture: {len(missing)} missing (first: {missing[:1]}), "
            f"{len(strange)} unknown (first: {strange[:1]})"
        )


def _is_head(name: str, heads: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{head}.") for head in heads)
