"""Closed-set ranking: of all answers of a closed set, the true one must be the likeliest."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ._inputs import (
    check_by_label,
    check_candidates,
    check_floating,
    check_labels,
    check_positive,
    counted_logits,
    token_nll,
)
from .closed_set import closed_set_positions, label_log_odds
from .response import masked_mean


def ranking_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    membership: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Mean over samples of the cross-entropy between the VLM's distribution over a closed set and the truth.

    Without membership: `-log softmax(scores / temperature)[target]`. With it: the binary cross-entropy of each label's
    probability (see `label_log_odds`), averaged over the labels that the row's candidates leave open. Samples whose
    candidates leave nothing open do not count (see `closed_set_positions`). A true answer that is padding costs
    infinity: mask such samples.

    Args:
        scores: Floating point, `(B, K)`: log-likelihoods of the candidate answers, -inf on padding.
        targets: Integers, `(B,)`: which candidate is true; with membership `(B, L)`, of any dtype: 1 for the labels of
            the sample, 0 for the others.
        membership: bool, `(K, L)`, or `(B, K, L)` where each row has its own candidates: the labels of each answer.
        mask: bool, `(B,)`: false for samples that do not count, whatever their scores and targets hold.
        temperature: Divides the scores. The loss is not multiplied by it: the targets are not softened along.
        normalizer: Replaces the number of samples divided by, as in `masked_mean`; under gradient accumulation or
            several ranks, the sum of `count_valid(closed_set_positions(..), "sequence")` over all of them.

    Returns:
        0-d, float32 for half precision, otherwise of the scores' dtype. Nothing counted: a zero attached to the graph.

    Raises:
        ValueError: Shapes, dtypes or the temperature are wrong.

    Example:
        >>> import torch
        >>> round(ranking_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)  # log(4)
        1.3863
        >>> membership = torch.tensor([[True, False], [True, True], [False, False], [False, True]])
        >>> round(ranking_loss(torch.zeros(1, 4), torch.tensor([[1, 0]]), membership=membership).item(), 4)  # log(2)
        0.6931

    Source: ours; the paper has no closed-set term.
    """
    check_positive(temperature=temperature)
    check_floating(scores=scores)
    check_candidates("scores", scores, membership, mask)
    positions = closed_set_positions(~scores.isneginf(), membership=membership, mask=mask)
    counted = positions.any(-1)
    scores = counted_logits(scores, counted)
    if membership is None:
        check_labels(targets, "targets")
        if targets.shape != counted.shape:
            raise ValueError(f"targets must have shape {tuple(counted.shape)}; got {tuple(targets.shape)}")
        losses = token_nll(scores / temperature, targets, counted).unsqueeze(-1)
    else:
        check_by_label("targets", targets, scores, membership)
        log_odds = label_log_odds(scores, membership, temperature).masked_fill(~positions, 0.0)
        truth = targets.to(log_odds.dtype).masked_fill(~positions, 0.0)
        losses = functional.binary_cross_entropy_with_logits(log_odds, truth, reduction="none")
    return masked_mean(losses, positions, "sequence", normalizer)


class RankingLoss(nn.Module):
    """`ranking_loss` as a module without parameters.

    Args:
        temperature: Divides the scores; greater than 0.

    Raises:
        ValueError: The temperature is wrong.

    Example:
        >>> RankingLoss(temperature=2.0)
        RankingLoss(temperature=2.0)

    Source: ours; the paper has no closed-set term.
    """

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature

    def forward(
        self,
        scores: Tensor,
        targets: Tensor,
        membership: Tensor | None = None,
        mask: Tensor | None = None,
        normalizer: float | Tensor | None = None,
    ) -> Tensor:
        """See `ranking_loss`."""
        return ranking_loss(
            scores,
            targets,
            membership=membership,
            mask=mask,
            temperature=self.temperature,
            normalizer=normalizer,
        )

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"temperature={self.temperature}"
