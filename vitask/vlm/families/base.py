"""What differs between VLM families: where their parts live and how an image becomes token embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn


class Family:
    """The seam between vitask and one family of Hugging Face image-text-to-text models.

    A family names the dotted paths of the three parts that vitask freezes or tunes apart, and turns the image inputs
    of the family's processor into embeddings of the LLM's width. Everything else in `vitask.vlm` is family-agnostic.
    Register a new one in `vitask.vlm.families.FAMILIES`.
    """

    model_types: ClassVar[tuple[str, ...]]
    """Values of `config.model_type` that this family serves."""
    language_model: ClassVar[str]
    """Path of the text decoder inside the model; LoRA is confined to it."""
    vision_tower: ClassVar[str]
    """Path of the image encoder; frozen unless `vlm.train_tower`."""
    projector: ClassVar[str]
    """Path of the VLM's own image-to-text connector; frozen unless `vlm.train_projector`."""
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

    def image_token_id(self, model: nn.Module) -> int:
        """Return the id of the placeholder token that stands for one image embedding."""
        return model.config.image_token_id

    def encode_images(self, model: nn.Module, images: Mapping[str, Tensor]) -> Tensor:
        """Return the image embeddings of a batch, one after the other, `(total image tokens, D)`."""
        raise NotImplementedError
