"""The packed form: every branch of a batch in one forward pass, what they share computed once.

The plain form costs a pass of the language model a branch. Here each image has one row that holds all its answers as a
tree (`vitask.vlm.branches`); a tree attention mask and positions that restart with every branch make the result the
same. Logits are computed at the places that predict an answer, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from vitask.vlm.branches import tree_mask

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from vitask.vlm.model import ExemplarVLM

MASKED_ATTENTION = ("sdpa", "eager")
"""Attention implementations that take a mask of any shape."""


def packed_outputs(vlm: ExemplarVLM, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute a packed batch in one forward pass.

    Args:
        vlm: the model; see `why_not_packed`.
        batch: as `ExemplarVLM.forward` takes it, with `packed` as `pack` gives it.

    Returns:
        As `ExemplarVLM.forward`.
    """
    packed = batch["packed"]
    logits = vlm.head(packed_hidden(vlm, batch))
    outputs = {name: logits[numbers] for name, numbers in packed["answers"].items()}
    if "scored" in packed:
        scored = packed["scored"]
        outputs["labels"] = add_up(token_log_likelihoods(logits, scored["heads"], scored["tokens"]), scored)
    return outputs


def packed_hidden(vlm: ExemplarVLM, batch: Mapping[str, Any]) -> Tensor:
    """Return the hidden states `(U, D)` at the places that predict an answer."""
    packed = batch["packed"]
    features = vlm.image_features(batch) if packed["image_index"] else ()
    exemplars = vlm.connector(batch["exemplars"]) if packed["has_exemplar"] else None
    inputs = vlm.decoder_inputs(packed, features, exemplars)
    mask = tree_mask(packed["segments"], packed["ancestors"])
    hidden = vlm.decode(inputs, additive(mask, inputs["inputs_embeds"].dtype))
    return hidden.flatten(0, 1)[packed["heads"]]


def token_log_likelihoods(logits: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
    """Return log p of tokens `(E,)`, each predicted at a place in logits `(U, V)`; float32 or wider."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide[places, tokens] - wide.logsumexp(-1)[places]


def add_up(log_p: Tensor, scored: Mapping[str, Tensor]) -> Tensor:
    """Sum the log-probabilities `(E,)` of every label's tokens: `(N, K)`, -inf where a sample has fewer labels.

    Args:
        log_p: one a token of the label sets.
        scored: the label sets' tokens, see `pack`.
    """
    valid = scored["valid"]
    scores = log_p.new_zeros(valid.numel()).index_add(0, scored["slots"], log_p)
    return scores.view_as(valid).masked_fill(~valid, -torch.inf)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask into what is added to attention scores.

    Eager attention takes no other: it would add a boolean mask as 0 and 1. SDPA takes both, but makes a copy of a
    boolean one in every layer.
    """
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def attention_name(model: PreTrainedModel) -> str:
    """Return the attention implementation of the language model."""
    return model.config.get_text_config()._attn_implementation


def why_not_packed(model: PreTrainedModel) -> str | None:
    """Say why a model cannot compute packed batches, or None if it can."""
    name, text = attention_name(model), model.config.get_text_config()
    if name not in MASKED_ATTENTION:
        return f"vlm.attention={name} takes no tree mask ({' and '.join(MASKED_ATTENTION)} do)"
    layers = getattr(text, "layer_types", None)
    kinds = set(layers or ()) - {"full_attention"}
    if kinds:
        return f"the language model has {', '.join(sorted(kinds))} layers, which a tree mask would turn into full ones"
    if layers is None and getattr(text, "sliding_window", None):
        return f"the language model has sliding windows ({text.sliding_window} tokens), which a tree mask would undo"
    return None
