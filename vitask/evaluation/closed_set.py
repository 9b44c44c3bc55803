"""Closed-set scoring: the probability of every candidate answer, for every image of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from vitask.evaluation.scoring import encode, score_responses
from vitask.vlm.generation import generate
from vitask.vlm.inputs import make_branch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter

SPARE_TOKENS = 4
"""How many tokens longer than the longest candidate a generated answer may be."""


def answer_images(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    *,
    exemplars: Sequence[Tensor] | None = None,
    batch_size: int = 64,
    with_text: bool = True,
) -> Iterator[tuple[Tensor, list[str]]]:
    """Answer a split batch by batch.

    Args:
        vlm: the model; put into evaluation mode.
        prompter: its tokeniser and processor.
        prompts: one an image.
        responses: token ids of the candidate answers.
        exemplars: TSM features `(K, D)` by image; `None` to answer without them.
        batch_size: images at once; it changes the speed, never the result.
        with_text: also answer greedily in free form.

    Yields:
        Log-likelihoods `(B, candidates)` float32 on the CPU, and the generated texts (empty without `with_text`).

    Source: paper, section 3, inference with and without EP; how an answer is scored is not stated there.
    """
    vlm.eval()
    device = next(vlm.parameters()).device
    for start in range(0, len(prompts), batch_size):
        rows = range(start, min(start + batch_size, len(prompts)))
        members = [prompts[row] for row in rows]
        features = torch.stack([exemplars[row] for row in rows]).to(device) if exemplars is not None else None
        images = encode(vlm, prompter, members)
        scores = score_responses(vlm, prompter, members, responses, images, features).cpu()
        shared = {**images, "exemplars": features}
        limit = max(map(len, responses)) + SPARE_TOKENS
        yield scores, generate_texts(vlm, prompter, members, shared, limit) if with_text else []


def generate_texts(
    vlm: ExemplarVLM, prompter: Prompter, prompts: Sequence[Prompt], shared: dict[str, Any], limit: int
) -> list[str]:
    """Answer greedily in at most `limit` tokens; `shared` holds the images and, to answer with them, the exemplars."""
    name, placement = ("vanilla", None) if shared["exemplars"] is None else ("exemplar", vlm.placement)
    branch = make_branch(prompts, [()] * len(prompts), placement, range(len(prompts)), prompter, left=True)
    batch = send_to_device({**shared, "branches": {name: branch}}, next(vlm.parameters()).device)
    ids = generate(vlm, batch, name, max_new_tokens=limit, end_id=prompter.end_id, pad_id=prompter.pad_id)
    return [prompter.decode(row) for row in ids]


def label_probabilities(log_likelihoods: Tensor, answers: Sequence[Sequence[int]], labels: int) -> Tensor:
    """Normalise candidate log-likelihoods and add them up by label.

    Args:
        log_likelihoods: `(N, candidates)`.
        answers: the labels that each candidate stands for.
        labels: size of the label set.

    Returns:
        `(N, labels)` float64: with one label an answer the probability of each label, with several the probability
        that the label is in the answer.

    Example:
        >>> label_probabilities(torch.tensor([[0.0, 0.0]]), [(0,), (0, 1)], 2)
        tensor([[1.0000, 0.5000]], dtype=torch.float64)
    """
    membership = torch.zeros(len(answers), labels, dtype=torch.float64)
    for row, members in enumerate(answers):
        membership[row, list(members)] = 1.0
    return log_likelihoods.double().softmax(-1) @ membership
