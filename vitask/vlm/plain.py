"""The plain form: one forward pass of the language model a branch. It is what the packed form is tested against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM


def plain_outputs(vlm: ExemplarVLM, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute a batch branch by branch; its images are encoded once.

    Args:
        vlm: the model.
        batch: as `ExemplarVLM.forward` takes it. Each of its `branches` is what `make_branch` gives; the branch
            `labels` holds a row for every label of every sample, and `targets (B, K, R)`, their tokens, -1 on padding.

    Returns:
        As `ExemplarVLM.forward`.
    """
    branches = batch["branches"]
    features = vlm.image_features(batch) if any(b.get("image_index") for b in branches.values()) else ()
    outputs = {}
    for name, branch in branches.items():
        exemplars = vlm.connector(batch["exemplars"]) if branch["has_exemplar"] else None
        hidden = vlm.decode(vlm.decoder_inputs(branch, features, exemplars), branch["attention_mask"])
        positions = branch["answer_positions"].unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        logits = vlm.head(hidden.gather(1, positions))
        outputs[name] = sequence_scores(logits, branch["targets"]) if name == "labels" else logits
    return outputs


def sequence_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-likelihood `(B, K)`, float32 or wider, of sequences `(B, K, R)`, -1 being padding.

    Args:
        logits: `(B K, R, V)`.
        targets: `(B, K, R)`; a sequence without a token is no candidate, and gets -inf.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    log_p = wide.log_softmax(-1).view(*targets.shape, -1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    scores = log_p.masked_fill(targets < 0, 0.0).sum(-1)
    return scores.masked_fill((targets < 0).all(-1), -torch.inf)
