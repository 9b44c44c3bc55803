"""Counting FLOPs with torch's own counter, every attention kernel with one formula.

The counter knows no attention kernel of the CPU, and older ones no keys that several heads share.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


def flop_counter() -> FlopCounterMode:
    """Return a context that counts the products and convolutions computed in it, forward and backward.

    Example:
        >>> with flop_counter() as counter:
        ...     torch.ones(2, 3) @ torch.ones(3, 5)
        >>> counter.get_total_flops()
        60
    """
    return FlopCounterMode(display=False, custom_mapping=KERNELS)


class StepFlops(TorchDispatchMode):
    """Counts the same of a training step, and leaves every bit of its result as it is.

    torch's own counter takes some operations apart, among them the gradient of SiLU, which changes their rounding. That
    is of use in inference mode alone.

    Attributes:
        flops: counted so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self._formulas = flop_counter().flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation and count it."""
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in self._formulas:
            self.flops += self._formulas[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def _forward_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, _with_heads(key, query), _with_heads(value, query))


def _backward_flops(gradient: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, _with_heads(key, query), _with_heads(value, query))


def _with_heads(shape: Any, query: Any) -> tuple[int, ...]:
    """Keys and values that several heads share are multiplied once a head."""
    return (shape[0], query[1], *shape[2:])


KERNELS = {
    aten._scaled_dot_product_flash_attention_for_cpu: _forward_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
    aten._scaled_dot_product_flash_attention: _forward_flops,
    aten._scaled_dot_product_flash_attention_backward: _backward_flops,
    aten._scaled_dot_product_efficient_attention: _forward_flops,
    aten._scaled_dot_product_efficient_attention_backward: _backward_flops,
    aten._scaled_dot_product_cudnn_attention: _forward_flops,
    aten._scaled_dot_product_cudnn_attention_backward: _backward_flops,
}
