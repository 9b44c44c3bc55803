"""Why training ends early."""

from __future__ import annotations

import torch

from vitask.errors import VitaskError


class NonFiniteLoss(VitaskError):
    """A loss part, or the gradient, became NaN or infinite."""


def memory_remedy(error: Exception) -> str | None:
    """What helps against an error that is about memory; nothing for others."""
    if isinstance(error, torch.OutOfMemoryError):
        return "a smaller optim.micro_batch_size or vlm.gradient_checkpointing=true"
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return "fewer launch.workers, as the system ends processes when memory runs out"
    return None
