"""Whether a family reads a model as the model reads itself: one prompt, once through each."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch

from vitask.errors import VitaskError
from vitask.vlm.inputs import make_branch, stack_images

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter

TOLERANCE = 1e-2
"""Of the largest logit. Usually the two are equal bit for bit; a misread model is off by far more."""


@torch.no_grad()
def check_family(vlm: ExemplarVLM, prompt: Prompt, prompter: Prompter) -> None:
    """Compare next-token logits of the wrapper, without exemplar, with those of the Hugging Face model inside it.

    Args:
        vlm: the wrapper, in evaluation mode.
        prompt: any prompt with an image.
        prompter: which made it.

    Raises:
        VitaskError: they differ; what the family says of the model is wrong.
    """
    device = vlm.base.device
    branch = make_branch([prompt], [()], None, [0], prompter)
    tokens = {key: value.to(device) if hasattr(value, "to") else value for key, value in branch.items()}
    batch = stack_images([prompt], prompter)
    batch["images"] = {key: value.to(device) for key, value in batch["images"].items()}
    inputs = vlm.decoder_inputs(tokens, vlm.image_features(batch))
    ours = vlm.head(vlm.decode(inputs, tokens["attention_mask"])[:, -1]).float()
    theirs = _untouched(vlm, tokens["input_ids"], batch["images"])
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    if not difference < TOLERANCE:
        raise VitaskError(
            f"vlm.path: family {type(vlm.family).__name__} misreads model type '{vlm.base.config.model_type}': "
            f"logits differ from the model's own by {difference:.0%}; CONTRIBUTING.md says how to add a family"
        )


def _untouched(vlm: ExemplarVLM, ids: Tensor, images: dict[str, Tensor]) -> Tensor:
    kinds = (ids == vlm.image_token_id).long()
    known = inspect.signature(vlm.base.forward).parameters
    types = {name: kinds for name in ("token_type_ids", "mm_token_type_ids") if name in known}
    out = vlm.base(input_ids=ids, attention_mask=torch.ones_like(ids), **types, **images, use_cache=False)
    return out.logits[:, -1].float()
