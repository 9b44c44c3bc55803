"""Label logits of a VLM's linear head, for every image of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device

from vitask.evaluation.scoring import encode
from vitask.vlm.classifier import VLMClassifier, prompt_branch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.prompts import Prompt, Prompter


@torch.no_grad()
def classify_images(
    model: VLMClassifier, prompter: Prompter, prompts: Sequence[Prompt], *, batch_size: int = 64
) -> Iterator[Tensor]:
    """Yield the logits `(B, labels)` of a split batch by batch, float32 on the CPU.

    Args:
        model: put into evaluation mode.
        prompter: which made the prompts.
        prompts: one an image.
        batch_size: images at once; it changes the speed, never the result.
    """
    model.eval()
    device = model.classifier.weight.device
    for start in range(0, len(prompts), batch_size):
        members = [prompts[row] for row in range(start, min(start + batch_size, len(prompts)))]
        branch = send_to_device(prompt_branch(members, prompter), device)
        yield model({**encode(model.vlm, prompter, members), "prompts": branch}).float().cpu()
