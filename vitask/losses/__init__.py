"""The losses of VITask (paper, section 2), on aligned response logits; needs torch and nothing else.

>>> import torch
>>> labels = torch.tensor([[-100, -100, -100, 3, 7], [-100, 4, 5, 7, -100]])
>>> logits, labels = select_response(torch.randn(2, 5, 8), labels)
>>> vanilla_loss(logits, labels).ndim, RDALoss()(logits, logits, labels).item()
(0, 0.0)
"""

from __future__ import annotations

from vitask.losses.branching import BranchingMask, branching_mask
from vitask.losses.crt import TOKENS, CRTLoss, crt_loss, crt_positions
from vitask.losses.rda import DIRECTIONS, RDALoss, rda_loss
from vitask.losses.response import (
    IGNORE_INDEX,
    REDUCTIONS,
    count_valid,
    masked_mean,
    response_positions,
    select_response,
    shift_response,
)
from vitask.losses.vanilla import VanillaLoss, vanilla_loss

__all__ = [
    "DIRECTIONS",
    "IGNORE_INDEX",
    "REDUCTIONS",
    "TOKENS",
    "BranchingMask",
    "CRTLoss",
    "RDALoss",
    "VanillaLoss",
    "branching_mask",
    "count_valid",
    "crt_loss",
    "crt_positions",
    "masked_mean",
    "rda_loss",
    "response_positions",
    "select_response",
    "shift_response",
    "vanilla_loss",
]
