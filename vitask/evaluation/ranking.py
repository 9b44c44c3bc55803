"""Whether a VLM ranks the right image above a wrong one: the criterion that contrastive response tuning is made for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitask.evaluation.scoring import encode
from vitask.evaluation.teacher_forcing import response_tokens

if TYPE_CHECKING:
    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter


def rank_images(
    vlm: ExemplarVLM,
    prompter: Prompter,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    negatives: Sequence[int],
    *,
    shown: Sequence[int] | None = None,
    batch_size: int = 64,
) -> Iterator[dict[tuple[int, int], float]]:
    """Compute how likely each sample's response is behind its own image and behind its negative image.

    The exemplar plays no part: the paper compares images on the branch without it. Every image is seen once, with all
    responses that are read behind it.

    Args:
        vlm: the model; put into evaluation mode.
        prompter: its tokeniser and processor.
        prompts: one a sample.
        responses: token ids of each sample's response, with the token that ends it.
        negatives: for each sample the number of its negative image, -1 if there is none.
        shown: the images to show, by number; `None` for all.
        batch_size: images at once; it changes the speed, never the result.

    Yields:
        By (sample, image) the mean probability of the response's tokens, for the images of a batch.

    Source: paper, section 2, inequality 4 and figure 3.
    """
    vlm.eval()
    readers = [[image] for image in range(len(prompts))]  # the samples whose response is read behind each image
    for sample, image in enumerate(negatives):
        if image >= 0:
            readers[image].append(sample)
    shown = range(len(prompts)) if shown is None else shown
    for start in range(0, len(shown), batch_size):
        rows = shown[start : start + batch_size]
        members = [prompts[row] for row in rows]
        read = [[responses[sample] for sample in readers[row]] for row in rows]
        tokens = response_tokens(vlm, prompter, members, read, encode(vlm, prompter, members))
        yield {
            (sample, row): float(log_p.exp().mean())
            for row, found in zip(rows, tokens, strict=True)
            for sample, log_p in zip(readers[row], found, strict=True)
        }


def ranking_metrics(positive: Sequence[float], negative: Sequence[float]) -> dict[str, float]:
    """Score pairs of probabilities: of a response behind its own image, and behind another one.

    Returns:
        `pairs`, their number; `pairs_right`, the share in which the own image makes the response likelier, ties
        counting half; `auc`, the same over all pairs of any two samples; both means, and `gap`, their difference.

    Example:
        >>> ranking_metrics([0.9, 0.6], [0.2, 0.6])["pairs_right"]
        0.75
    """
    from sklearn.metrics import roc_auc_score

    own, other = np.asarray(positive), np.asarray(negative)
    truth = np.repeat([1, 0], len(own))
    return {
        "pairs": len(own),
        "pairs_right": float(np.mean((own > other) + 0.5 * (own == other))),
        "auc": float(roc_auc_score(truth, np.concatenate([own, other]))),
        "positive_mean": float(own.mean()),
        "negative_mean": float(other.mean()),
        "gap": float(own.mean() - other.mean()),
    }
