"""L_Van and L_EP: next-token cross-entropy on the response."""

from __future__ import annotations

from torch import Tensor, nn

from ._inputs import check_aligned, check_choice, counted_logits, token_nll
from .response import IGNORE_INDEX, REDUCTIONS, masked_mean


def vanilla_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    reduction: str = "token",
    normalizer: float | Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Mean of `-log p(y)` over response tokens: L_Van on logits without the exemplar, L_EP on logits with it.

    Args:
        logits: Floating point, `(..., T, V)`, already aligned with the labels.
        labels: Integers, `(..., T)`; `ignore_index` where there is no response.
        reduction: "token" or "sequence", see `masked_mean`.
        normalizer: Replaces the number of tokens (or sequences) divided by, see `masked_mean`.
        ignore_index: Marks what is not response.

    Returns:
        0-d, float32 for half precision, otherwise of the logits' dtype. No response: a zero attached to the graph.

    Raises:
        ValueError: Shapes, dtypes or the reduction are wrong.

    Example:
        >>> import torch
        >>> round(vanilla_loss(torch.zeros(1, 3, 8), torch.tensor([[1, 2, -100]])).item(), 4)  # log(8)
        2.0794

    Source: paper, section 2, L_Van and L_EP.
    """
    check_aligned(labels, logits=logits)
    valid = labels != ignore_index
    return masked_mean(token_nll(counted_logits(logits, valid), labels, valid), valid, reduction, normalizer)


class VanillaLoss(nn.Module):
    """`vanilla_loss` as a module without parameters.

    Args:
        reduction: "token" or "sequence".
        ignore_index: Marks what is not response.

    Raises:
        ValueError: The reduction is unknown.

    Example:
        >>> VanillaLoss(reduction="sequence")
        VanillaLoss(reduction='sequence', ignore_index=-100)

    Source: paper, section 2, L_Van and L_EP.
    """

    def __init__(self, *, reduction: str = "token", ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS)
        self.reduction = reduction
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor, normalizer: float | Tensor | None = None) -> Tensor:
        """See `vanilla_loss`."""
        return vanilla_loss(
            logits, labels, reduction=self.reduction, normalizer=normalizer, ignore_index=self.ignore_index
        )

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"reduction={self.reduction!r}, ignore_index={self.ignore_index}"
