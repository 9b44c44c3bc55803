"""What a VLM still knows: how likely given answers to given prompts are, and which of them it gives by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vitask.evaluation.closed_set import SPARE_TOKENS, generate_texts
from vitask.evaluation.scoring import encode
from vitask.evaluation.teacher_forcing import response_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter


def answer_prompts(
    vlm: ExemplarVLM, prompter: Prompter, prompts: Sequence[Prompt], answers: Sequence[str]
) -> tuple[list[Tensor], list[str]]:
    """Read the right answers and answer greedily, without exemplar.

    Args:
        vlm: the model; put into evaluation mode.
        prompter: its tokeniser and processor.
        prompts: a batch of them.
        answers: the right answer to each.

    Returns:
        log p of every token of each right answer, `(tokens,)`, the token that ends it included; and the model's own
        answers.
    """
    vlm.eval()
    images = encode(vlm, prompter, prompts)
    responses = [prompter.response(answer) for answer in answers]
    tokens = response_tokens(vlm, prompter, prompts, [[response] for response in responses], images)
    limit = max(map(len, responses)) + SPARE_TOKENS
    texts = generate_texts(vlm, prompter, prompts, {**images, "exemplars": None}, limit)
    return [own[0] for own in tokens], texts


def retention_metrics(tokens: Sequence[Tensor], texts: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """Score answers.

    Args:
        tokens: log p of every token of each right answer.
        texts: the answers given.
        answers: the right ones.

    Returns:
        `perplexity` of the right answers' tokens, exp of their mean negative log-likelihood, and `exact_match`, the
        share of answers that are right to the letter.

    Example:
        >>> retention_metrics([torch.tensor([0.5, 0.5]).log()], ["a star"], ["a star"])
        {'perplexity': 2.0, 'exact_match': 1.0}
    """
    loss = -float(torch.cat(list(tokens)).double().mean())
    right = [given == answer for given, answer in zip(texts, answers, strict=True)]
    return {"perplexity": math.exp(min(loss, 700.0)), "exact_match": sum(right) / len(right)}
