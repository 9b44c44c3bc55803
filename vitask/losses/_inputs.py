"""What every loss does with its inputs first: check them, widen them, blank out what is not counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError, listing the valid ones, unless `value` is among `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def check_labels(labels: Tensor) -> None:
    """Raise ValueError unless `labels` holds integers."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers; got {labels.dtype}")


def check_aligned(labels: Tensor, **logits: Tensor) -> None:
    """Raise ValueError unless every logits tensor is floating point and of one shape `(*labels.shape, V)`."""
    check_labels(labels)
    for name, tensor in logits.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point; got {tensor.dtype}")
    shapes = [tuple(tensor.shape) for tensor in logits.values()]
    if any(shape != shapes[0] for shape in shapes) or not shapes[0] or shapes[0][:-1] != tuple(labels.shape):
        got = ", ".join(f"{name} {shape}" for name, shape in zip(logits, shapes, strict=True))
        raise ValueError(
            f"logits must have the labels' shape and a last dimension V: got {got}, labels {tuple(labels.shape)}"
        )


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
