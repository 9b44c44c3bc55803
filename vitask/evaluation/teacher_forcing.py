"""The likelihood of every token of given responses behind given prompts, each read with the right tokens before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from vitask.evaluation.scoring import SEQUENCES, packed_log_likelihoods
from vitask.vlm.inputs import make_branch
from vitask.vlm.packed import why_not_packed
from vitask.vlm.packing import Continuation, pack
from vitask.vlm.plain import plain_outputs

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter


@torch.no_grad()
def response_tokens(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[Sequence[int]]],
    images: Mapping[str, Any],
    exemplars: Tensor | None = None,
) -> list[list[Tensor]]:
    """Compute log p of every token of every prompt's responses.

    Args:
        vlm: the model, in evaluation mode.
        prompter: which made the prompts.
        prompts: one an image.
        responses: for each prompt one or several responses, token ids with the token that ends them.
        images: `image_features` and `image_tokens`, on the model's device.
        exemplars: `(B, K, exemplar_dim)` to read with them, on the model's device; `None` without.

    Returns:
        For each prompt and response a tensor `(tokens,)` float32 on the CPU.
    """
    read = _one_by_one if why_not_packed(vlm.base) else _packed
    tokens = read(vlm, prompter, prompts, responses, images, exemplars)
    found = iter(tokens.cpu().split([len(response) for own in responses for response in own]))
    return [[next(found) for _ in own] for own in responses]


def _packed(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[Sequence[int]]],
    images: Mapping[str, Any],
    exemplars: Tensor | None,
) -> Tensor:
    """The tokens of all responses one behind the other, from one pass that holds each image once."""
    with_exemplar = exemplars is not None
    sets = [[Continuation(row, response, with_exemplar) for response in own] for row, own in enumerate(responses)]
    placement = vlm.placement if with_exemplar else None
    packed = send_to_device(pack(prompts, prompter, placement, {}, sets), next(vlm.parameters()).device)
    return packed_log_likelihoods(vlm, {**images, "exemplars": exemplars, "packed": packed})


def _one_by_one(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[Sequence[int]]],
    images: Mapping[str, Any],
    exemplars: Tensor | None,
) -> Tensor:
    """The same with a sequence of its own for each response."""
    pairs = [(row, response) for row, own in enumerate(responses) for response in own]
    parts = []
    for start in range(0, len(pairs), SEQUENCES):
        rows, own = zip(*pairs[start : start + SEQUENCES], strict=True)
        placement = None if exemplars is None else vlm.placement
        branch = make_branch([prompts[row] for row in rows], own, placement, rows, prompter)
        branch = send_to_device(branch, next(vlm.parameters()).device)
        shown = None if exemplars is None else exemplars[list(rows)]
        batch = {**images, "exemplars": shown, "branches": {"responses": branch}}
        logits = plain_outputs(vlm, batch)["responses"]
        for row, response in zip(logits, own, strict=True):
            log_p = row[: len(response)].float().log_softmax(-1)
            parts.append(log_p.gather(-1, torch.tensor(response, device=log_p.device)[:, None])[:, 0])
    return torch.cat(parts)
