"""Contrastive decoding over a closed set: what an image adds to the likelihood of an answer, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vitask.evaluation.closed_set import answer_images
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM

GREY = (128, 128, 128)


def contrasted(scores: Tensor, blank: Tensor, weight: float) -> Tensor:
    """Contrast log-likelihoods behind an image with those behind a blank one: `(1 + weight) scores - weight blank`.

    Args:
        scores: `(N, candidates)`.
        blank: of the same shape.
        weight: 0 changes nothing.

    Source: visual contrastive decoding (Leng et al. 2023, arXiv 2311.16922) without its cut of unlikely
    answers, on whole answers of a closed set; a blank image in place of a noisy one.

    Example:
        >>> contrasted(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -4.0]]), 1.0)
        tensor([[-1., 0.]])
    """
    return (1 + weight) * scores - weight * blank


def blank_scores(
    vlm: ExemplarVLM, prompts: PromptTable, responses: Sequence[Sequence[int]], *, batch_size: int = 64
) -> Tensor:
    """Compute the log-likelihood of every candidate behind a grey image in the place of each image.

    A blank image has nothing but its size, so each size (and instruction, if there are several) is computed once.

    Args:
        vlm: the model.
        prompts: one an image.
        responses: token ids of the candidates.
        batch_size: images at once; it changes the speed, never the result.

    Returns:
        `(N, candidates)` float32 on the CPU.
    """
    from PIL import Image

    kinds = [(image.size, prompts.instruction(row)) for row, image in enumerate(prompts.images)]
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    images = [Image.new("RGB", size, GREY) for size, _ in places]
    blanks = PromptTable(images, prompts.prompter, [instruction for _, instruction in places])
    batches = answer_images(vlm, blanks.prompter, blanks, responses, batch_size=batch_size, with_text=False)
    return torch.cat([scores for scores, _ in batches])[[places[kind] for kind in kinds]]
