"""The models that are measured: InternVL of the real classes, random weights, in the paper's size or scaled down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitask.vlm.adapt import add_lora
from vitask.vlm.connector import Connector
from vitask.vlm.families import InternVL
from vitask.vlm.inputs import Placement
from vitask.vlm.model import ExemplarVLM

if TYPE_CHECKING:
    from transformers import InternVLConfig

LABELS = 10
PATCH = 14
DOWNSAMPLE = 0.5
HEAD, TAG = 4, 3
"""Text tokens before the image and in the assistant tag."""


@dataclass(frozen=True)
class Layers:
    """A stack of transformer layers."""

    count: int
    width: int
    hidden: int
    heads: int


@dataclass(frozen=True)
class Size:
    """Everything that sets what a step costs.

    Attributes:
        vision: the vision tower.
        text: the language model.
        key_value_heads: of the language model.
        vocabulary: tokens.
        pixels: side of the square image.
        instruction: text tokens between image and assistant tag.
        lengths: tokens of each label's response, the end token among them.
        exemplar_dim: width of the TSM's feature.
        rank: of LoRA.
        dtype: of weights and computation, unless asked otherwise.
    """

    vision: Layers
    text: Layers
    key_value_heads: int
    vocabulary: int
    pixels: int
    instruction: int
    lengths: tuple[int, ...]
    exemplar_dim: int
    rank: int
    dtype: str

    @property
    def image_tokens(self) -> int:
        """Embeddings of one image."""
        return int((self.pixels // PATCH * DOWNSAMPLE) ** 2)


LENGTHS = (6, 5, 4, 3, 2, 6, 5, 4, 3, 5)
SIZES = {
    "tiny": Size(Layers(1, 32, 64, 2), Layers(2, 64, 128, 4), 2, 512, 56, 8, LENGTHS, 8, 4, "float32"),
    # Tokens as in InternVL2-2B, widths by about 1/8, fewer layers; depths, the tower's width and vocabulary are such
    # that tower, language model and head have the same shares in a stock step's FLOPs as there (a test compares them).
    "small": Size(Layers(3, 160, 512, 4), Layers(6, 256, 1024, 4), 2, 3840, 448, 80, LENGTHS, 96, 8, "float32"),
    "internvl2_2b": Size(
        Layers(24, 1024, 4096, 16), Layers(24, 2048, 8192, 16), 8, 92553, 448, 80, LENGTHS, 768, 8, "bfloat16"
    ),
}


def model_config(size: Size) -> InternVLConfig:
    """Describe the VLM of a size; its last token id is the image placeholder."""
    from transformers import InternVLConfig, Qwen2Config

    vision, text = size.vision, size.text
    return InternVLConfig(
        vision_config={
            "num_hidden_layers": vision.count,
            "hidden_size": vision.width,
            "intermediate_size": vision.hidden,
            "num_attention_heads": vision.heads,
            "attention_bias": True,
            "image_size": [size.pixels, size.pixels],
            "patch_size": [PATCH, PATCH],
        },
        text_config=Qwen2Config(
            num_hidden_layers=text.count,
            hidden_size=text.width,
            intermediate_size=text.hidden,
            num_attention_heads=text.heads,
            num_key_value_heads=size.key_value_heads,
            vocab_size=size.vocabulary,
            tie_word_embeddings=False,
        ),
        image_token_id=size.vocabulary - 1,
        image_seq_length=size.image_tokens,
        downsample_ratio=DOWNSAMPLE,
        tie_word_embeddings=False,
    )


class Models:
    """One VLM with LoRA, and wrappers of it that differ in where the exemplar stands and whether the connector learns.

    Args:
        size: how large.
        device: where; `meta` for shapes alone.
        dtype: of the weights. The connector's are float32, as in training.
        seed: of the weights.
    """

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype, seed: int = 0) -> None:
        from transformers import AutoModelForImageTextToText

        torch.manual_seed(seed)
        with device:
            model = AutoModelForImageTextToText.from_config(model_config(size), dtype=dtype, attn_implementation="sdpa")
            self.adapted = add_lora(model, InternVL(), rank=size.rank, alpha=2 * size.rank)
            connectors = {stage: Connector(size.exemplar_dim, size.text.width) for stage in ("1", "2")}
        _randomise(self.adapted)
        connectors["2"].load_state_dict(connectors["1"].state_dict())
        connectors["2"].requires_grad_(False)
        self.connectors = connectors
        self.half = dtype in (torch.bfloat16, torch.float16)

    def vlm(self, position: str = "before_assistant", stage: str = "1") -> ExemplarVLM:
        """Wrap the VLM, in training mode; the connector learns in stage 1 and is frozen in stage 2."""
        return ExemplarVLM(self.adapted, InternVL(), self.connectors[stage], Placement(position, 1)).train()

    def tensors(self) -> list[Tensor]:
        """Return parameters and buffers: what is there whether a step is computed or not."""
        modules = (self.adapted, *self.connectors.values())
        return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for module in (self.adapted, self.connectors["1"]):
            module.zero_grad(set_to_none=True)


@torch.no_grad()
def _randomise(model: nn.Module) -> None:
    """Draw weights of unit gain: with the usual small ones the output hardly depends on the input."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
