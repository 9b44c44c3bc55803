"""What the closed-set losses share: which labels the candidates leave open, and the odds that the VLM gives a label.

A closed set is K candidate answers. The VLM's log-likelihoods of their texts, `scores (B, K)`, make a distribution over
them, `softmax(scores / temperature)`; a candidate at -inf is padding of a ragged list and has no part in it. An answer
stands for one label (no membership), or for those that `membership` says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._inputs import at_least_float32, check_bool, check_candidates, check_floating, check_positive


def closed_set_positions(candidates: Tensor, *, membership: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Mark what `ranking_loss` and `csa_loss` average over; `count_valid(.., "sequence")` of it is what they divide by.

    A label counts where it is in at least one of the row's candidates and not in all of them: elsewhere its probability
    is exactly 0 or 1 whatever the scores are. Without membership a sample counts if it has at least two candidates.

    Args:
        candidates: bool, `(B, K)`: false on the padding of a ragged list of candidates, where scores are -inf.
        membership: bool, `(K, L)`, or `(B, K, L)` where each row has its own candidates: the labels of each answer.
        mask: bool, `(B,)`: false for samples that do not count.

    Returns:
        bool, `(B, L)`; `(B, 1)` without membership.

    Raises:
        ValueError: Shapes or dtypes are wrong.

    Example:
        >>> import torch
        >>> candidates = torch.tensor([[True, True, True], [True, True, False]])
        >>> membership = torch.tensor([[True, False], [True, True], [False, True]])
        >>> closed_set_positions(candidates, membership=membership).tolist()
        [[True, True], [False, True]]

    Source: ours; the paper has no closed-set term.
    """
    check_candidates("candidates", candidates, membership, mask)
    check_bool(candidates=candidates)
    if membership is None:
        open_labels = candidates.sum(-1, keepdim=True) > 1
    else:
        holders, others = _sides(candidates, membership)
        open_labels = holders.any(-2) & others.any(-2)
    return open_labels if mask is None else open_labels & mask.unsqueeze(-1)


def label_log_odds(scores: Tensor, membership: Tensor, temperature: float = 1.0) -> Tensor:
    """The VLM's log-odds of each label: `log p - log(1 - p)`, p being the probability of the answers that hold it.

    Both sides are sums in the log domain, so that a p next to 0 or 1 keeps its digits. The sigmoid of it is p.

    Args:
        scores: Floating point, `(B, K)`: log-likelihoods of the candidate answers, -inf on padding.
        membership: bool, `(K, L)` or `(B, K, L)`: the labels of each answer.
        temperature: Divides the scores; greater than 0.

    Returns:
        `(B, L)`, float32 for half precision, otherwise of the scores' dtype. Where the candidates settle a label (see
        `closed_set_positions`): inf for one that is in all of them, -inf for one that is in none, without gradient.

    Raises:
        ValueError: Shapes, dtypes or the temperature are wrong.

    Example:
        >>> import torch
        >>> membership = torch.tensor([[True, False, True], [True, True, False], [True, True, False]])
        >>> label_log_odds(torch.zeros(1, 3), membership).sigmoid()
        tensor([[1.0000, 0.6667, 0.3333]])

    Source: ours; the paper has no closed-set term.
    """
    check_positive(temperature=temperature)
    check_floating(scores=scores)
    check_candidates("scores", scores, membership)
    candidates = ~scores.isneginf()
    holders, others = _sides(candidates, membership)
    logits = (at_least_float32(scores).masked_fill(~candidates, 0.0) / temperature).unsqueeze(-1)
    log_odds = _log_sum(logits, holders) - _log_sum(logits, others)
    return log_odds.masked_fill(~others.any(-2), torch.inf).masked_fill(~holders.any(-2), -torch.inf)


def _sides(candidates: Tensor, membership: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates that hold each label, and those that do not: bool, `(B, K, L)`; padding is on neither side."""
    candidates = candidates.unsqueeze(-1)
    return candidates & membership, candidates & ~membership


def _log_sum(logits: Tensor, kept: Tensor) -> Tensor:
    """Log of the sum over kept candidates, `(B, L)`; over all of them where none is kept, as -inf has NaN gradients."""
    kept = kept | ~kept.any(-2, keepdim=True)
    return logits.masked_fill(~kept, -torch.inf).logsumexp(-2)
