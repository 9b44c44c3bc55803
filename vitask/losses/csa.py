"""Closed-set alignment (CSA): the task-specific model teaches the VLM its distribution over the labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._divergence import kl_divergence
from ._inputs import (
    at_least_float32,
    check_by_label,
    check_candidates,
    check_floating,
    check_positive,
    counted_logits,
)
from .closed_set import closed_set_positions, label_log_odds
from .response import masked_mean


def csa_loss(
    scores: Tensor,
    teacher_logits: Tensor,
    *,
    membership: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Mean over samples of the KL divergence from the TSM's distribution over a closed set to the VLM's.

    Without membership: `KL(softmax(teacher_logits / teacher_temperature) || softmax(scores / temperature))`, both over
    the candidates that are not padding. With it: `KL(sigmoid(teacher_logits / teacher_temperature) || p)`, p being a
    label's probability under the VLM (see `label_log_odds`), averaged over the labels that the row's candidates leave
    open. Samples whose candidates leave nothing open do not count (see `closed_set_positions`). Non-negative up
    to rounding; the teacher never gets a gradient.

    Args:
        scores: Floating point, `(B, K)`: log-likelihoods of the candidate answers, -inf on padding.
        teacher_logits: Floating point, `(B, K)`: the TSM's logits of the candidates; with membership `(B, L)`, of the
            labels.
        membership: bool, `(K, L)`, or `(B, K, L)` where each row has its own candidates: the labels of each answer.
        mask: bool, `(B,)`: false for samples that do not count, whatever their scores and teacher hold.
        temperature: Divides the scores; the KL is multiplied by its square, as in `rda_loss`, so that near
            agreement an error in the scores pulls as hard at any temperature.
        teacher_temperature: Divides the teacher's logits: it chooses the target and scales no gradient.
        normalizer: Replaces the number of samples divided by, as in `masked_mean`; under gradient accumulation or
            several ranks, the sum of `count_valid(closed_set_positions(..), "sequence")` over all of them.

    Returns:
        0-d, float32 for half precision, otherwise of the inputs' dtype. Nothing counted: a zero attached to the graph.

    Raises:
        ValueError: Shapes, dtypes or a temperature are wrong.

    Example:
        >>> import math
        >>> import torch
        >>> scores, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(3)]])
        >>> round(csa_loss(scores, teacher).item(), 4)  # log(1/2) / 4 + 3 log(3/2) / 4
        0.1308

    Source: ours, after the distillation of Hinton et al. (2015); the paper aligns the VLM with itself (L_RDA) instead.
    """
    check_positive(temperature=temperature, teacher_temperature=teacher_temperature)
    check_floating(scores=scores, teacher_logits=teacher_logits)
    check_candidates("scores", scores, membership, mask)
    check_by_label("teacher_logits", teacher_logits, scores, membership)
    positions = closed_set_positions(~scores.isneginf(), membership=membership, mask=mask)
    scores = counted_logits(scores, positions.any(-1))
    teacher_logits = at_least_float32(teacher_logits.detach()).masked_fill(~positions, 0.0) / teacher_temperature
    if membership is None:
        teacher = teacher_logits.masked_fill(scores.isneginf(), -torch.inf).log_softmax(-1)
        student = (scores / temperature).log_softmax(-1)
        divergence = kl_divergence(teacher, student).unsqueeze(-1)
    else:
        log_odds = label_log_odds(scores, membership, temperature).masked_fill(~positions, 0.0)
        divergence = kl_divergence(_log_coin(teacher_logits), _log_coin(log_odds))
    return temperature**2 * masked_mean(divergence, positions, "sequence", normalizer)


def _log_coin(log_odds: Tensor) -> Tensor:
    """Log-probabilities of yes and no, `(.., 2)`."""
    return torch.stack([functional.logsigmoid(log_odds), functional.logsigmoid(-log_odds)], -1)


class CSALoss(nn.Module):
    """`csa_loss` as a module without parameters.

    Args:
        temperature: Divides the scores; greater than 0.
        teacher_temperature: Divides the teacher's logits; greater than 0.

    Raises:
        ValueError: A temperature is wrong.

    Example:
        >>> CSALoss(teacher_temperature=2.0)
        CSALoss(temperature=1.0, teacher_temperature=2.0)

    Source: ours; the paper has no closed-set term.
    """

    def __init__(self, *, temperature: float = 1.0, teacher_temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(temperature=temperature, teacher_temperature=teacher_temperature)
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature

    def forward(
        self,
        scores: Tensor,
        teacher_logits: Tensor,
        membership: Tensor | None = None,
        mask: Tensor | None = None,
        normalizer: float | Tensor | None = None,
    ) -> Tensor:
        """See `csa_loss`."""
        return csa_loss(
            scores,
            teacher_logits,
            membership=membership,
            mask=mask,
            temperature=self.temperature,
            teacher_temperature=self.teacher_temperature,
            normalizer=normalizer,
        )

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"temperature={self.temperature}, teacher_temperature={self.teacher_temperature}"
