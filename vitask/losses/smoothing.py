"""A teacher without a model: the response's own tokens, smoothed, as what `rda_loss` takes for the teacher's logits."""

from __future__ import annotations

import torch
from torch import Tensor

from ._inputs import check_labels


def smoothed_label_logits(
    labels: Tensor, vocabulary: int, smoothing: float = 0.1, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Logs of the distribution that gives a token `1 - smoothing`, and spreads `smoothing` over the whole vocabulary.

    Handed to `rda_loss` as the teacher's logits it is the control of RDA: the same loss, taught by label smoothing
    instead of by the branch with the exemplar. What RDA gains beyond it comes from the exemplar. A temperature of
    `rda_loss` softens this teacher like any other.

    Args:
        labels: Integers, `(..., T)`: the response's tokens. On padding, where a label is no token, all are alike.
        vocabulary: V.
        smoothing: Greater than 0, as the KL of the student to a teacher that rules tokens out is infinite; 1 at most.
        dtype: Of the result.

    Returns:
        `(..., T, V)`, whose softmax over V is the distribution.

    Raises:
        ValueError: The labels are not integers, or the smoothing is not in (0, 1].

    Example:
        >>> import torch
        >>> smoothed_label_logits(torch.tensor([2]), 4, smoothing=0.2).exp()
        tensor([[0.0500, 0.0500, 0.8500, 0.0500]])

    Source: ours, after the label smoothing of Szegedy et al. (2016); a control that the paper does not have.
    """
    check_labels(labels)
    if not 0 < smoothing <= 1:
        raise ValueError(f"smoothing must be greater than 0 and at most 1; got {smoothing}")
    hits = (labels.unsqueeze(-1) == torch.arange(vocabulary, device=labels.device)).to(dtype)
    return ((1 - smoothing) * hits + smoothing / vocabulary).log()
