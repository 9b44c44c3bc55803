"""FLOPs and bytes of a computation, counted exactly; with shapes alone (the device `meta`), nothing is computed.

On `meta`, attention would fall apart into products that keep their probabilities, which no kernel does; here it stays
one kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vitask.training.flops import flop_counter

aten = torch.ops.aten


def count(step: Callable[[], Tensor | None], weights: Iterable[Tensor], device: torch.device) -> tuple[int, int]:
    """Count one computation, backward pass included if it returns something to differentiate.

    Args:
        step: computes a loss, or anything that needs no backward pass and returns None.
        weights: tensors that are there anyway; what is saved of them costs nothing.
        device: on which it computes.

    Returns:
        FLOPs, and the bytes of the tensors that were saved for the backward pass.
    """
    known = {_storage(tensor) for tensor in weights}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known:
            saved[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    counter = flop_counter()
    with ExitStack() as stack:
        if device.type == "meta":
            stack.enter_context(_MetaAttention())
            stack.enter_context(_Answers())
        stack.enter_context(counter)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = step()
        if loss is not None:
            loss.backward()
    return counter.get_total_flops(), sum(saved.values())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Answers(TorchDispatchMode):
    """Answers questions about values that are not there: an input is sound, but no mask is without padding.

    Soundness is asked with `_is_all_true`, by torch's own checks; other questions are whether a mask can be left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answer = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            answer, self.answer = self.answer, False
            return answer
        self.answer = func is aten._is_all_true.default
        return func(*args, **(kwargs or {}))


class _MetaAttention(TorchFunctionMode):
    """Lets attention be one kernel."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    mask = attn_mask.to(query.dtype) if attn_mask is not None else None
    kernel = aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale)[0]
