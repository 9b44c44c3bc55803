"""Closed-set scoring: the log-likelihood of every answer of a set, from one trie of answers behind one prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from vitask.vlm.inputs import label_branch, stack_images
from vitask.vlm.packed import add_up, packed_hidden, token_log_likelihoods, why_not_packed
from vitask.vlm.packing import Continuation, pack
from vitask.vlm.plain import plain_outputs

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter

ANSWER_TOKENS = 512
"""Answer tokens behind one prefix in one pass; more answers take more passes."""
SEQUENCES = 256
"""Whole sequences in one pass where answers cannot share it."""
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
    prefixes = _Prefixes(vlm, prompter, prompts, images, exemplars)
    if why_not_packed(vlm.base):
        parts = [prefixes.one_by_one(part) for part in _parts(responses, most=max(1, SEQUENCES // len(prompts)))]
    else:
        parts = [prefixes.trie(part) for part in _parts(responses)]
    return torch.cat(parts, dim=1).float()


def packed_log_likelihoods(vlm: ExemplarVLM, batch: Mapping[str, Any]) -> Tensor:
    """Return log p `(E,)` float32 of every token of a packed batch's label sets, a part of the logits at a time."""
    hidden, scored = packed_hidden(vlm, batch), batch["packed"]["scored"]
    heads, tokens = scored["heads"], scored["tokens"]
    log_p = torch.zeros(len(heads), device=hidden.device)
    size = max(1, LOGIT_VALUES // vlm.base.get_output_embeddings().weight.shape[0])
    for start in range(0, len(hidden), size):
        here = (heads >= start) & (heads < start + size)
        logits = vlm.head(hidden[start : start + size])
        log_p[here] = token_log_likelihoods(logits, heads[here] - start, tokens[here]).float()
    return log_p


@torch.no_grad()
def encode(vlm: ExemplarVLM, prompter: Prompter, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Encode the images of some prompts, for every use of them: `image_features` and `image_tokens`."""
    images = send_to_device(stack_images(prompts, prompter), next(vlm.parameters()).device)
    return {"image_features": vlm.encode_images(images["images"]), "image_tokens": images["image_tokens"]}


def _parts(responses: Sequence[Sequence[int]], most: int | None = None) -> Iterator[list[Sequence[int]]]:
    """Cut a closed set into runs of at most `ANSWER_TOKENS` tokens and `most` answers, and at least one answer."""
    part: list[Sequence[int]] = []
    for response in responses:
        if part and (sum(map(len, part)) + len(response) > ANSWER_TOKENS or len(part) == most):
            yield part
            part = []
        part.append(response)
    yield part


@dataclass(frozen=True)
class _Prefixes:
    """What the answers stand behind; the arguments of `score_responses`."""

    vlm: ExemplarVLM
    prompter: Prompter
    prompts: Sequence[Prompt]
    images: Mapping[str, Any]
    exemplars: Tensor | None

    def trie(self, responses: Sequence[Sequence[int]]) -> Tensor:
        """Score a set of answers in one pass."""
        vlm, with_exemplar = self.vlm, self.exemplars is not None
        sets = [[Continuation(row, r, with_exemplar) for r in responses] for row in range(len(self.prompts))]
        packed = self._on_device(pack(self.prompts, self.prompter, vlm.placement, {}, sets))
        log_p = packed_log_likelihoods(vlm, {**self.images, "exemplars": self.exemplars, "packed": packed})
        return add_up(log_p, packed["scored"])

    def one_by_one(self, responses: Sequence[Sequence[int]]) -> Tensor:
        """Score a set of answers in one sequence each."""
        placement = None if self.exemplars is None else self.vlm.placement
        rows = range(len(self.prompts))
        branch = label_branch(self.prompts, rows, [responses] * len(rows), self.prompter, placement)
        exemplars = None if self.exemplars is None else self.exemplars.repeat_interleave(len(responses), 0)
        batch = {**self.images, "exemplars": exemplars, "branches": {"labels": self._on_device(branch)}}
        return plain_outputs(self.vlm, batch)["labels"]

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        return send_to_device(batch, next(self.vlm.parameters()).device)
