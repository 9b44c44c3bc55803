"""The losses of VITask (paper, section 2), on aligned response logits, and three of ours on the scores of a closed set.

Needs torch and nothing else.

>>> import torch
>>> labels = torch.tensor([[-100, -100, -100, 3, 7], [-100, 4, 5, 7, -100]])
>>> logits, labels = select_response(torch.randn(2, 5, 8), labels)
>>> vanilla_loss(logits, labels).ndim, RDALoss()(logits, logits, labels).item()
(0, 0.0)
>>> scores = torch.randn(2, 4)  # log-likelihoods of the four candidate answers
>>> ranking_loss(scores, torch.tensor([1, 3])).ndim, CSALoss()(scores, scores).item()
(0, 0.0)
"""

from __future__ import annotations

from .branching import BranchingMask, branching_mask
from .closed_set import closed_set_positions, label_log_odds
from .crt import TOKENS, CRTLoss, crt_loss, crt_positions
from .csa import CSALoss, csa_loss
from .image_ranking import ImageRankingLoss, image_ranking_loss, image_ranking_positions
from .ranking import RankingLoss, ranking_loss
from .rda import DIRECTIONS, MASKS, RDALoss, rda_loss
from .response import (
    IGNORE_INDEX,
    REDUCTIONS,
    count_valid,
    masked_mean,
    response_positions,
    select_response,
    shift_response,
)
from .smoothing import smoothed_label_logits
from .vanilla import VanillaLoss, vanilla_loss

__all__ = [
    "DIRECTIONS",
    "IGNORE_INDEX",
    "MASKS",
    "REDUCTIONS",
    "TOKENS",
    "BranchingMask",
    "CRTLoss",
    "CSALoss",
    "ImageRankingLoss",
    "RDALoss",
    "RankingLoss",
    "VanillaLoss",
    "branching_mask",
    "closed_set_positions",
    "count_valid",
    "crt_loss",
    "crt_positions",
    "csa_loss",
    "image_ranking_loss",
    "image_ranking_positions",
    "label_log_odds",
    "masked_mean",
    "ranking_loss",
    "rda_loss",
    "response_positions",
    "select_response",
    "shift_response",
    "smoothed_label_logits",
    "vanilla_loss",
]
