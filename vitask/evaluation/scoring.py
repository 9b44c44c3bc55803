"""Closed-set scoring: the log-likelihood of every answer of a set, from one trie of answers behind one prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from vitask.vlm.inputs import label_branch
from vitask.vlm.packed import add_up, packed_hidden, token_log_likelihoods, why_not_packed
from vitask.vlm.packing import Continuation, pack
from vitask.vlm.plain import plain_outputs

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter

ANSWER_TOKENS = 512
"""Answer tokens behind one prefix in one pass; more answers take more passes."""
LOGIT_VALUES = 1 << 26
"""Logits held at once (256 MiB in float32)."""


@torch.no_grad()
def score_responses(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    images: Mapping[str, Any],
    exemplars: Tensor | None = None,
) -> Tensor:
    """Compute the log-likelihood of every response of a closed set behind every prompt.

    The answers share one pass as a trie, each common beginning computed once; sets whose tokens do not fit are scored
    in several passes. A model whose attention takes no tree mask gets one sequence an answer instead.

    Args:
        vlm: the model, in evaluation mode.
        prompter: which made the prompts.
        prompts: one an image.
        responses: token ids of each response, with the token that ends it.
        images: `images` or `image_features`, and `image_tokens`, on the model's device.
        exemplars: TSM features `(B, K, exemplar_dim)` to score with them, on the model's device.

    Returns:
        `(B, K)` float32 on the model's device, the sum of log p over each response's tokens.
    """
    score = _score_one_by_one if why_not_packed(vlm.base) else _score_trie
    parts = [score(vlm, prompter, prompts, part, images, exemplars) for part in _parts(responses)]
    return torch.cat(parts, dim=1).float()


def _parts(responses: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Cut a closed set into runs of at most `ANSWER_TOKENS` tokens, and at least one answer."""
    part: list[Sequence[int]] = []
    for response in responses:
        if part and sum(map(len, part)) + len(response) > ANSWER_TOKENS:
            yield part
            part = []
        part.append(response)
    yield part


def _score_trie(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    images: Mapping[str, Any],
    exemplars: Tensor | None,
) -> Tensor:
    rows = range(len(prompts))
    sets = [[Continuation(row, response, exemplars is not None) for response in responses] for row in rows]
    packed = send_to_device(pack(prompts, prompter, vlm.placement, {}, sets), next(vlm.parameters()).device)
    hidden = packed_hidden(vlm, {**images, "exemplars": exemplars, "packed": packed})
    scored = packed["scored"]
    log_p = torch.zeros(len(scored["heads"]), device=hidden.device, dtype=torch.float32)
    size = max(1, LOGIT_VALUES // vlm.base.get_output_embeddings().weight.shape[0])
    for start in range(0, len(hidden), size):
        logits = vlm.head(hidden[start : start + size])
        here = (scored["heads"] >= start) & (scored["heads"] < start + size)
        found = token_log_likelihoods(logits, scored["heads"][here] - start, scored["tokens"][here])
        log_p[here] = found.float()
    return add_up(log_p, scored)


def _score_one_by_one(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    images: Mapping[str, Any],
    exemplars: Tensor | None,
) -> Tensor:
    placement = vlm.placement if exemplars is not None else None
    branch = label_branch(prompts, range(len(prompts)), [responses] * len(prompts), prompter, placement)
    branch = send_to_device(branch, next(vlm.parameters()).device)
    repeated = exemplars.repeat_interleave(len(responses), 0) if exemplars is not None else None
    return plain_outputs(vlm, {**images, "exemplars": repeated, "branches": {"labels": branch}})["labels"]
