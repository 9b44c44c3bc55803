"""What differs between VLM families: where their parts live and how an image becomes token embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig


class Family:
    """The seam between vitask and one family of Hugging Face image-text-to-text models.

    A family names the dotted paths of the three parts that vitask freezes or tunes apart. The methods have defaults
    that fit most families: images go through `model.get_image_features`, positions count tokens. Everything else in
    `vitask.vlm` is family-agnostic. Register a new one in `vitask.vlm.families.FAMILIES`.
    """

    model_types: ClassVar[tuple[str, ...]]
    """Values of `config.model_type` that this family serves."""
    language_model: str
    """Path of the text decoder inside the model; LoRA is confined to it."""
    vision_tower: str
    """Path of the image encoder; frozen unless `vlm.train_tower`. A projector inside it is no part of it."""
    projector: tuple[str, ...]
    """Paths of the VLM's own image-to-text connector; frozen unless `vlm.train_projector`."""
    notice: str | None = None
    """One line that the user should read before trusting this family with the model."""
    lora_targets: ClassVar[tuple[str, ...]] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the decoder's linear layers that LoRA adapts by default."""

    def image_token_id(self, config: PretrainedConfig) -> int:
        """Return the id of the placeholder token that stands for one image embedding."""
        return config.image_token_id

    def encode_images(self, model: nn.Module, images: Mapping[str, Tensor]) -> Tensor:
        """Return the image embeddings of a batch, one after the other, `(total image tokens, L, D)`.

        Level 0 takes the placeholder's place among the token embeddings. Most families have no other (L = 1); further
        ones are what `decoder_options` hands to the decoder.
        """
        return joined(model.get_image_features(**images).pooler_output).unsqueeze(1)

    def stack_images(self, images: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Join the image inputs of single images into those of a batch, in order.

        Images of fewer tiles, `(1, tiles, ...)`, are padded with zeros, as their processors do it in a batch.
        """
        return {key: padded([one[key] for one in images]) for key in images[0]}

    def positions(self, config: PretrainedConfig, ids: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """Return the positions of a prompt's tokens, up to the last image placeholder: `(P, T)` int64, P rotary axes.

        What follows goes on from the largest of them, by 1 a token on every axis.

        Args:
            config: the VLM's configuration.
            ids: the tokens, `(T,)` int64.
            images: the image inputs of the prompt.
        """
        return torch.arange(len(ids)).unsqueeze(0)

    def decoder_options(self, places: Tensor, levels: Tensor) -> dict[str, Any]:
        """Return further arguments of the decoder, from the image tokens' places and their further levels.

        Args:
            places: `(B, T)` bool, where image embeddings stand.
            levels: `(image tokens, L - 1, D)`, in the order of the places.
        """
        return {}


def joined(features: Tensor | Sequence[Tensor]) -> Tensor:
    """Put features of single images or tiles, `(..., D)` each, one behind the other: `(total image tokens, D)`."""
    return torch.cat([one.flatten(0, -2) for one in features])


def padded(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors of one rank along their first axis, zeros behind what is shorter on the other axes."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    whole = tensors[0].new_zeros(sum(map(len, tensors)), *shape)
    start = 0
    for tensor in tensors:
        whole[(slice(start, start + len(tensor)), *map(slice, tensor.shape[1:]))] = tensor
        start += len(tensor)
    return whole
