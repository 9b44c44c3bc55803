"""The task-specific model (TSM): a timm backbone with a linear head, and the features it lends as exemplars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from vitask.errors import UsageError, VitaskError, did_you_mean
from vitask.tsm.data_config import resolve_data_config
from vitask.tsm.kinds import exemplar_features
from vitask.tsm.weights import load_backbone_weights


class TSM(nn.Module):
    """A small image classifier trained on the task's labels; ViT-Base in the paper (section 3), here any timm model.

    Args:
        name: timm model name, with or without a pretrained tag (`resnet18`, `vit_base_patch16_224.augreg_in21k`).
        num_classes: outputs of the linear head; 0 for an encoder without one.
        pretrained: fetch timm's weights for the backbone (the head always starts fresh).
        model_args: further keyword arguments of `timm.create_model`.
        checkpoint: local timm-style weights file for the backbone, instead of `pretrained`.
        data_config: overrides of timm's input settings: input_size, mean, std, interpolation, crop_pct, crop_mode.

    Raises:
        UsageError: for an unknown name, model argument or input setting.
        VitaskError: when weights cannot be fetched or do not fit.

    Example:
        >>> tsm = TSM("resnet18", 2, data_config={"input_size": 28})
        >>> tsm.features(torch.zeros(4, 3, 28, 28), "cls").shape
        torch.Size([4, 1, 512])
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        pretrained: bool = False,
        model_args: Mapping[str, Any] | None = None,
        checkpoint: str | None = None,
        data_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pretrained and checkpoint:
            raise UsageError("tsm.pretrained and tsm.checkpoint exclude each other: choose one source of weights")
        self.name, self.num_classes, self.model_args = name, num_classes, dict(model_args or {})
        self.backbone = _create_backbone(name, num_classes, pretrained, self.model_args)
        if checkpoint:
            load_backbone_weights(self.backbone, checkpoint)
        self.data_config = resolve_data_config(self.backbone, self.model_args, data_config or {})
        self.frozen = False
        self._shapes: dict[str, tuple[int, int]] = {}

    @property
    def architecture(self) -> dict[str, Any]:
        """Everything but the weights that decides what this model computes, as plain values."""
        return {
            "name": self.name,
            "model_args": self.model_args,
            "num_classes": self.num_classes,
            "data_config": self.data_config,
        }

    def forward(self, pixels: Tensor) -> Tensor:
        """Classify `pixels (B, C, H, W)`: logits `(B, num_classes)`."""
        return self.backbone(pixels) if self.num_classes else pixels.new_zeros(len(pixels), 0)

    def features(self, pixels: Tensor, kind: str) -> Tensor:
        """Return exemplar features `(B, K, D)` in float32; `kind` is `cls` (K = 1) or `patches`."""
        return exemplar_features(self.backbone, self.backbone.forward_features(pixels), kind)

    def features_and_logits(self, pixels: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return `features(pixels, kind)` and `forward(pixels)` from one pass through the backbone."""
        hidden = self.backbone.forward_features(pixels)
        logits = self.backbone.forward_head(hidden) if self.num_classes else hidden.new_zeros(len(hidden), 0)
        return exemplar_features(self.backbone, hidden, kind), logits

    def feature_dim(self, kind: str) -> int:
        """Return D, the width of one exemplar token."""
        return self._shape(kind)[1]

    def num_tokens(self, kind: str) -> int:
        """Return K, the exemplar tokens of one image of the configured input size."""
        return self._shape(kind)[0]

    def freeze(self) -> TSM:
        """Fix weights and batch statistics for good: no gradients, and evaluation mode whatever `train` is told."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def freeze_encoder(self) -> TSM:
        """Let nothing but the linear head train, as a linear probe does; batch statistics stay as they are, too."""
        self.freeze()
        for head in self._heads():
            head.requires_grad_(True)
        return self

    def train(self, mode: bool = True) -> TSM:
        """Switch between training and evaluation; a frozen model or encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def _heads(self) -> list[nn.Module]:
        """The layer that gives the logits; a distilled model has two."""
        found = self.backbone.get_classifier()
        return [found] if isinstance(found, nn.Module) else list(found)

    def _shape(self, kind: str) -> tuple[int, int]:
        """Return (K, D), seen once on a blank image."""
        if kind not in self._shapes:
            was_training = self.training
            self.eval()
            first = next(self.parameters())
            blank = torch.zeros(1, *self.data_config["input_size"], dtype=first.dtype, device=first.device)
            with torch.no_grad():
                self._shapes[kind] = tuple(self.features(blank, kind).shape[1:])
            self.train(was_training)
        return self._shapes[kind]


def _create_backbone(name: str, num_classes: int, pretrained: bool, model_args: dict[str, Any]) -> nn.Module:
    """Build the timm model, with every failure that a user can cause said in one line."""
    if ":" not in name and not timm.is_model(name):
        raise UsageError(f"unknown timm model '{name}'.{did_you_mean(name, timm.list_models())}")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **model_args)
    except OSError as error:
        raise VitaskError(
            f"the pretrained weights of '{name}' are not in the local cache and cannot be downloaded: run once on a "
            "connected machine, set tsm.pretrained=false, or give a local file with tsm.checkpoint"
        ) from error
    except Exception as error:
        near = did_you_mean(name, timm.list_pretrained(f"{name.split('.')[0]}.*")) if "tag" in str(error) else ""
        raise UsageError(f"timm cannot build '{name}' with tsm.model_args={model_args}: {error}.{near}") from error
