"""L_CRT, contrastive response tuning: the response must follow from its own image rather than from another one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._inputs import check_aligned, check_bool, check_choice, counted_logits, token_nll
from .branching import BranchingMask, branching_mask
from .response import IGNORE_INDEX, REDUCTIONS, masked_mean

TOKENS = ("all", "branching")


def crt_positions(
    labels: Tensor,
    *,
    tokens: str = "all",
    label_tokens: Sequence[Sequence[int]] | None = None,
    mask: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Mark the positions that `crt_loss` averages over; `count_valid` of it is what the loss divides by.

    Args:
        labels: Integers, `(..., T)`; `ignore_index` where there is no response.
        tokens: "all" response tokens (the paper) or the "branching" ones only.
        label_tokens: The closed set of labels, see `branching_mask`; needed for "branching".
        mask: bool, of the labels' shape or with dimensions of 1 in it: `(B, 1)` says which samples have a negative.
        ignore_index: Marks what is not response.

    Returns:
        bool, `(..., T)`.

    Raises:
        ValueError: Options, shapes or dtypes are wrong, or a row is not in the closed set.

    Example:
        >>> import torch
        >>> labels, has_negative = torch.tensor([[5, 6], [8, -100]]), torch.tensor([[True], [False]])
        >>> crt_positions(labels, mask=has_negative).tolist()
        [[True, True], [False, False]]

    Source: paper, section 2, L_CRT; the choice of tokens and the mask are ours.
    """
    _check_options(tokens, label_tokens)
    positions = labels != ignore_index
    if tokens == "branching" and label_tokens is not None:
        positions = positions & branching_mask(labels, label_tokens, ignore_index)
    if mask is None:
        return positions
    check_bool(mask=mask)
    if mask.ndim != labels.ndim or any(m not in (1, n) for m, n in zip(mask.shape, labels.shape, strict=True)):
        raise ValueError(
            f"mask must have the labels' shape, or 1 in some dimensions: "
            f"got {tuple(mask.shape)} and labels {tuple(labels.shape)}"
        )
    return positions & mask


def crt_loss(
    positive_logits: Tensor,
    negative_logits: Tensor,
    labels: Tensor,
    *,
    tokens: str = "all",
    label_tokens: Sequence[Sequence[int]] | None = None,
    mask: Tensor | None = None,
    reduction: str = "token",
    normalizer: float | Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Mean over response tokens of `-log q(y)`, `q = softmax(positive_logits - negative_logits)`.

    The subtraction happens in float32 or wider. A token at -inf in either branch (a masked vocabulary) has no part in
    the softmax. Only the default `tokens` is free of host work, so only it compiles into one graph.

    Args:
        positive_logits: Floating point, `(..., T, V)`, aligned with the labels: the response given its own image.
        negative_logits: Of the same shape: the same response given another image.
        labels: Integers, `(..., T)`; `ignore_index` where there is no response.
        tokens: "all" (the paper), or "branching": only where the labels of the closed set still differ, which spares
            the tokens that the image does not decide.
        label_tokens: The closed set of labels, see `branching_mask`; needed for "branching".
        mask: bool, of the labels' shape or with dimensions of 1 in it, such as `(B, 1)`: false where there is no valid
            negative. Such samples weigh nothing, whatever their logits hold, and stay in the graph.
        reduction: "token" or "sequence", see `masked_mean`; both count the positions of `crt_positions`.
        normalizer: Replaces the number of tokens (or sequences) divided by, see `masked_mean`.
        ignore_index: Marks what is not response.

    Returns:
        0-d, float32 for half precision, otherwise of the logits' dtype. Nothing counted: a zero attached to the graph.

    Raises:
        ValueError: Options, shapes or dtypes are wrong, or a row is not in the closed set.

    Example:
        >>> import torch
        >>> logits, labels = torch.randn(2, 3, 8), torch.tensor([[1, 2, 3], [4, -100, -100]])
        >>> round(crt_loss(logits, logits, labels).item(), 4)  # log(8): the images tell nothing
        2.0794

    Source: paper, section 2, L_CRT.
    """
    check_aligned(labels, positive_logits=positive_logits, negative_logits=negative_logits)
    valid = crt_positions(labels, tokens=tokens, label_tokens=label_tokens, mask=mask, ignore_index=ignore_index)
    positive, negative = counted_logits(positive_logits, valid), counted_logits(negative_logits, valid)
    excluded = positive.isneginf() | negative.isneginf()
    contrast = (positive - negative).masked_fill(excluded, -torch.inf)
    return masked_mean(token_nll(contrast, labels, valid), valid, reduction, normalizer)


def _check_options(tokens: str, label_tokens: Sequence[Sequence[int]] | None) -> None:
    check_choice("tokens", tokens, TOKENS)
    if tokens == "branching" and label_tokens is None:
        raise ValueError("tokens='branching' needs label_tokens, the closed set of labels as token ids")


class CRTLoss(nn.Module):
    """`crt_loss` as a module without parameters.

    Args:
        tokens: "all" (the paper) or "branching".
        label_tokens: The closed set of labels; needed for "branching".
        reduction: "token" or "sequence".
        ignore_index: Marks what is not response.

    Raises:
        ValueError: An option is wrong.

    Example:
        >>> CRTLoss(tokens="branching", label_tokens=[[5, 6, 0], [5, 7, 0]])
        CRTLoss(tokens='branching', labels=2, reduction='token', ignore_index=-100)

    Source: paper, section 2, L_CRT.
    """

    def __init__(
        self,
        *,
        tokens: str = "all",
        label_tokens: Sequence[Sequence[int]] | None = None,
        reduction: str = "token",
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        _check_options(tokens, label_tokens)
        check_choice("reduction", reduction, REDUCTIONS)
        if label_tokens is not None:
            BranchingMask(label_tokens, ignore_index=ignore_index)
        self.tokens = tokens
        self.label_tokens = label_tokens
        self.reduction = reduction
        self.ignore_index = ignore_index

    def forward(
        self,
        positive_logits: Tensor,
        negative_logits: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        normalizer: float | Tensor | None = None,
    ) -> Tensor:
        """See `crt_loss`."""
        return crt_loss(
            positive_logits,
            negative_logits,
            labels,
            tokens=self.tokens,
            label_tokens=self.label_tokens,
            mask=mask,
            reduction=self.reduction,
            normalizer=normalizer,
            ignore_index=self.ignore_index,
        )

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        labels = f", labels={len(self.label_tokens)}" if self.label_tokens is not None else ""
        return f"tokens={self.tokens!r}{labels}, reduction={self.reduction!r}, ignore_index={self.ignore_index}"
