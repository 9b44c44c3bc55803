"""The exemplar kinds: what of a TSM's last hidden map the language model is shown. A new kind is one function here."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from vitask.errors import UsageError, VitaskError, did_you_mean


def cls_feature(backbone: nn.Module, hidden: Tensor) -> Tensor:
    """EP_cls: the vector that the linear head reads (CLS token or pooled map), `(B, 1, D)`. Paper, section 2."""
    return backbone.forward_head(hidden, pre_logits=True).unsqueeze(1)


def patch_features(backbone: nn.Module, hidden: Tensor) -> Tensor:
    """EP_all: every patch embedding, without class or register tokens, `(B, K, D)`. Paper, section 2."""
    if hidden.ndim == 3:
        has_cls = getattr(backbone, "cls_token", None) is not None
        return hidden[:, getattr(backbone, "num_prefix_tokens", int(has_cls)) :]
    if hidden.ndim == 4:
        channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        return hidden.flatten(1, 2) if channels_last else hidden.flatten(2).transpose(1, 2)
    raise VitaskError(f"exemplar kind 'patches' needs (B, N, D) or 2-D maps, this backbone gives {tuple(hidden.shape)}")


KINDS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {"cls": cls_feature, "patches": patch_features}


def exemplar_features(backbone: nn.Module, hidden: Tensor, kind: str) -> Tensor:
    """Turn `backbone.forward_features` output into exemplar features, `(B, K, D)` in float32.

    Raises:
        UsageError: when `kind` is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown exemplar kind '{kind}', known: {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    return KINDS[kind](backbone, hidden).float()
