"""What every loss does with its inputs first: check them, widen them, blank out what is not counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError, listing the valid ones, unless `value` is among `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def check_positive(**numbers: float) -> None:
    """Raise ValueError unless every number is greater than 0."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} must be greater than 0; got {number}")


def check_labels(labels: Tensor, name: str = "labels") -> None:
    """Raise ValueError unless `labels` holds integers."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers; got {labels.dtype}")


def check_bool(**tensors: Tensor) -> None:
    """Raise ValueError unless every tensor is bool."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.bool:
            raise ValueError(f"{name} must be bool; got {tensor.dtype}")


def check_floating(**tensors: Tensor) -> None:
    """Raise ValueError unless every tensor is floating point."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point; got {tensor.dtype}")


def check_aligned(labels: Tensor, **logits: Tensor) -> None:
    """Raise ValueError unless every logits tensor is floating point and of one shape `(*labels.shape, V)`."""
    check_labels(labels)
    check_floating(**logits)
    shapes = [tuple(tensor.shape) for tensor in logits.values()]
    if any(shape != shapes[0] for shape in shapes) or not shapes[0] or shapes[0][:-1] != tuple(labels.shape):
        got = ", ".join(f"{name} {shape}" for name, shape in zip(logits, shapes, strict=True))
        raise ValueError(
            f"logits must have the labels' shape and a last dimension V: got {got}, labels {tuple(labels.shape)}"
        )


def check_candidates(name: str, values: Tensor, membership: Tensor | None, mask: Tensor | None = None) -> None:
    """Raise ValueError unless `values` is `(B, K)`, `membership` bool `(K, L)` or `(B, K, L)`, `mask` bool `(B,)`."""
    shape = tuple(values.shape)
    if len(shape) != 2 or not shape[1]:
        raise ValueError(f"{name} must have shape (B, K), with at least one candidate; got {shape}")
    if membership is not None:
        check_bool(membership=membership)
        if tuple(membership.shape[:-1]) not in (shape, shape[1:]):
            raise ValueError(
                f"membership must have shape (K, L) or (B, K, L): got {tuple(membership.shape)} and {name} {shape}"
            )
    if mask is not None:
        check_bool(mask=mask)
        if tuple(mask.shape) != shape[:1]:
            raise ValueError(f"mask must have shape (B,): got {tuple(mask.shape)} and {name} {shape}")


def check_by_label(name: str, values: Tensor, scores: Tensor, membership: Tensor | None) -> None:
    """Raise ValueError unless `values` is `(B, L)`, L being K where there is no membership."""
    shape = (scores.shape[0], scores.shape[1] if membership is None else membership.shape[-1])
    if tuple(values.shape) != shape:
        labels = "one value a candidate" if membership is None else "one value a label of membership"
        raise ValueError(f"{name} must have shape {shape}, {labels}; got {tuple(values.shape)}")


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is half precision; float32 and float64 stay as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def counted_logits(logits: Tensor, valid: Tensor) -> Tensor:
    """Logits in float32 or wider, zero where `valid` is false, so that garbage there reaches no value and no gradient.

    Zeroing the loss alone would not do: the backward pass of a softmax multiplies its zero gradient by NaN.
    """
    return at_least_float32(logits).masked_fill(~valid.unsqueeze(-1), 0.0)


def token_nll(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """`-log softmax(logits)[label]` at each position `(...)`; a position that is not valid is read as label 0."""
    targets = labels.masked_fill(~valid, 0).long().unsqueeze(-1)
    return -logits.log_softmax(-1).gather(-1, targets).squeeze(-1)
