"""Open-ended answers: how likely right and other responses are behind an image, and what is answered freely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from vitask.evaluation.closed_set import generate_texts
from vitask.evaluation.scoring import encode
from vitask.evaluation.teacher_forcing import response_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter


def read_responses(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[Sequence[int]]],
    *,
    exemplars: Sequence[Tensor] | None = None,
    batch_size: int = 64,
    limit: int = 0,
) -> Iterator[tuple[list[list[float]], list[str]]]:
    """Read every prompt's responses, and answer greedily, batch by batch.

    Args:
        vlm: the model; put into evaluation mode.
        prompter: its tokeniser and processor.
        prompts: one a question.
        responses: for each prompt one or several responses, token ids with the token that ends them.
        exemplars: `(K, D)` by prompt; `None` to read and answer without them.
        batch_size: prompts at once; it changes the speed, never the result.
        limit: tokens of a free answer at most; 0 for no answers.

    Yields:
        For each prompt of a batch the log-likelihood of each of its responses, and the answers.
    """
    vlm.eval()
    device = next(vlm.parameters()).device
    for start in range(0, len(prompts), batch_size):
        rows = range(start, min(start + batch_size, len(prompts)))
        members = [prompts[row] for row in rows]
        shown = torch.stack([exemplars[row] for row in rows]).to(device) if exemplars is not None else None
        images = encode(vlm, prompter, members)
        tokens = response_tokens(vlm, prompter, members, [responses[row] for row in rows], images, shown)
        scores = [[float(log_p.double().sum()) for log_p in own] for own in tokens]
        yield scores, generate_texts(vlm, prompter, members, {**images, "exemplars": shown}, limit) if limit else []


def right_places(scores: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the place of the right response, the first of each row, among the row's others; the likeliest is at 1.

    An equal one counts as half a place; NaN where there are no others.

    Example:
        >>> right_places([[-1.0, -2.0, -0.5], [-1.0, -1.0], [-3.0]])
        array([2. , 1.5, nan])
    """
    places = [
        1 + sum((other > own) + 0.5 * (other == own) for other in others) if others else np.nan
        for own, *others in scores
    ]
    return np.array(places, dtype=float)
