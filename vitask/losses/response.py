"""Which positions of a sequence are the response, and means over them."""

from __future__ import annotations

import torch
from torch import Tensor

from ._inputs import at_least_float32, check_bool, check_choice, check_labels

IGNORE_INDEX = -100
REDUCTIONS = ("token", "sequence")


def shift_response(logits: Tensor, input_ids_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Align full-sequence logits with the tokens they predict (the logits at position t predict token t + 1).

    Args:
        logits: Floating point, `(..., T, V)`.
        input_ids_labels: Integers, `(..., T)`: the input ids, with `IGNORE_INDEX` off the response.

    Returns:
        Logits `(..., T-1, V)` and labels `(..., T-1)`, ready for every loss of this package.

    Raises:
        ValueError: The shapes do not agree, or the labels are not integers.

    Example:
        >>> import torch
        >>> logits, labels = shift_response(torch.zeros(2, 5, 7), torch.full((2, 5), IGNORE_INDEX))
        >>> tuple(logits.shape), tuple(labels.shape)
        ((2, 4, 7), (2, 4))

    Source: paper, section 2 (losses run over the response tokens of an autoregressive distribution).
    """
    _check_sequences(logits, input_ids_labels)
    return logits[..., :-1, :], input_ids_labels[..., 1:]


def response_positions(labels: Tensor, *, ignore_index: int = IGNORE_INDEX) -> tuple[Tensor, Tensor]:
    """Find the positions whose logits predict the response tokens, in order, one row a sequence.

    A response token in the very first position has no logits that predict it and is left out.

    Args:
        labels: Integers, `(B, T)`, not shifted: `labels[b, t]` is the token at position t, or `ignore_index`.
        ignore_index: Marks what is not response.

    Returns:
        positions: int64 `(B, R)`, where R is the longest response of the batch (0 when all are empty); the token
            predicted from `positions[b, r]` stands at `positions[b, r] + 1`. Padding is 0.
        mask: bool `(B, R)`, false on padding.

    Raises:
        ValueError: The labels are not integers of two dimensions.

    Example:
        >>> import torch
        >>> positions, mask = response_positions(torch.tensor([[-100, -100, 5, 6], [-100, 8, -100, -100]]))
        >>> positions.tolist(), mask.tolist()
        ([[1, 2], [0, 0]], [[True, True], [True, False]])

    Source: paper, section 2 (losses run over response tokens only).
    """
    check_labels(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must have shape (B, T); got {tuple(labels.shape)}")
    predicted = labels[:, 1:] != ignore_index
    lengths = predicted.sum(-1)
    longest = int(lengths.max()) if lengths.numel() else 0
    mask = torch.arange(longest, device=labels.device) < lengths.unsqueeze(-1)
    responses_first = (~predicted).to(torch.uint8).argsort(dim=-1, stable=True)
    return responses_first[:, :longest].masked_fill(~mask, 0), mask


def select_response(logits: Tensor, labels: Tensor, *, ignore_index: int = IGNORE_INDEX) -> tuple[Tensor, Tensor]:
    """Gather the logits that predict the response, and the response, left-aligned.

    Prompts of different lengths (with and without exemplar tokens, say) come out aligned position by position, which
    is what lets `rda_loss` and `crt_loss` compare them. The last dimension is free: pass hidden states `(B, T, D)` and
    apply the language-model head to what comes back, and logits off the response are never computed.

    Args:
        logits: `(B, T, V)`, logits or hidden states of the full sequences.
        labels: Integers, `(B, T)`, not shifted, `ignore_index` off the response.
        ignore_index: Marks what is not response, and pads the rows of the result.

    Returns:
        Logits `(B, R, V)` and labels `(B, R)`, R being the longest response of the batch (0 when all are empty).

    Raises:
        ValueError: The shapes do not agree, or the labels are not integers of two dimensions.

    Example:
        >>> import torch
        >>> logits = torch.arange(8.0).reshape(2, 4, 1)
        >>> selected, labels = select_response(logits, torch.tensor([[-100, -100, 5, 6], [-100, 8, -100, -100]]))
        >>> selected.squeeze(-1).tolist(), labels.tolist()
        ([[1.0, 2.0], [4.0, 4.0]], [[5, 6], [8, -100]])

    Source: paper, section 2 (L_RDA and L_CRT compare two branches at the same response tokens).
    """
    positions, mask = response_positions(labels, ignore_index=ignore_index)
    _check_sequences(logits, labels)
    selected_labels = labels.gather(1, positions + 1).masked_fill(~mask, ignore_index)
    return torch.take_along_dim(logits, positions.unsqueeze(-1), dim=1), selected_labels


def count_valid(mask: Tensor, reduction: str = "token") -> Tensor:
    """Count what `masked_mean` divides by, so that a loop can sum it over micro-batches and ranks.

    Args:
        mask: bool, `(..., T)`.
        reduction: "token" counts true entries; "sequence" counts rows with at least one.

    Returns:
        int64, 0-d.

    Raises:
        ValueError: The reduction is unknown, or the mask is not bool.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[True, True], [True, False], [False, False]])
        >>> int(count_valid(mask)), int(count_valid(mask, "sequence"))
        (3, 2)

    Source: ours; the paper says "averaged over the batch" and no more.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    check_bool(mask=mask)
    return mask.sum() if reduction == "token" else mask.any(-1).sum()


def masked_mean(
    values: Tensor, mask: Tensor, reduction: str = "token", normalizer: float | Tensor | None = None
) -> Tensor:
    """Average `values` where `mask` is true; what stands elsewhere, NaN included, reaches no value and no gradient.

    Args:
        values: Floating point, `(..., T)`.
        mask: bool, of the same shape.
        reduction: "token" weighs every token the same; "sequence" averages each sequence over its own tokens (the last
            dimension), then over the sequences that have any.
        normalizer: Replaces the number of tokens (or sequences) divided by; 0 is read as 1. Under gradient accumulation
            or several ranks pass the sum of `count_valid` over all of them, and the sum of the losses is the loss of
            the one large batch. (DDP averages gradients: multiply by the number of ranks.)

    Returns:
        0-d, float32 for half precision, otherwise of the values' dtype. Nothing valid: a zero attached to the graph.

    Raises:
        ValueError: The shapes differ, the mask is not bool, the reduction is unknown, the normalizer is a tensor of
            several numbers or a negative number of Python. The value of a tensor is not looked at: that would wait for
            its device.

    Example:
        >>> import torch
        >>> values, mask = torch.tensor([[2.0, 4.0], [9.0, torch.nan]]), torch.tensor([[True, True], [True, False]])
        >>> masked_mean(values, mask).item(), masked_mean(values, mask, "sequence").item()
        (5.0, 6.0)

    Source: paper, section 2 ("over response tokens only, averaged over the batch"); the two readings are ours.
    """
    if values.shape != mask.shape:
        raise ValueError(f"values and mask must have one shape: got {tuple(values.shape)} and {tuple(mask.shape)}")
    count = count_valid(mask, reduction)
    kept = at_least_float32(values).masked_fill(~mask, 0.0)
    if reduction == "sequence":
        kept = kept.sum(-1) / mask.sum(-1).clamp(min=1)
    if normalizer is None:
        return kept.sum() / count.clamp(min=1)
    return kept.sum() / _denominator(normalizer, kept)


def _denominator(normalizer: float | Tensor, like: Tensor) -> float | Tensor:
    if not isinstance(normalizer, Tensor):
        if normalizer < 0:
            raise ValueError(f"normalizer must not be negative; got {normalizer}")
        return normalizer or 1
    if normalizer.ndim:
        raise ValueError(f"normalizer must be one number; got shape {tuple(normalizer.shape)}")
    normalizer = normalizer.to(like)
    return normalizer.masked_fill(normalizer == 0, 1)


def _check_sequences(logits: Tensor, labels: Tensor) -> None:
    check_labels(labels)
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits must have shape (*labels.shape, V): got {tuple(logits.shape)} and labels {tuple(labels.shape)}"
        )
