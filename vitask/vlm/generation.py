"""Greedy generation, by the decoder itself, with its cache.

`transformers`' own `generate` takes embeddings, but neither a family's positions nor the further image features that
some decoders want, and it obeys settings that checkpoints bring along. One short loop serves every family.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitask.vlm.model import ExemplarVLM


@torch.no_grad()
def generate(
    vlm: ExemplarVLM, batch: Mapping[str, Any], name: str, *, max_new_tokens: int, end_id: int, pad_id: int
) -> list[list[int]]:
    """Answer greedily.

    Args:
        vlm: the model, in evaluation mode.
        batch: as `ExemplarVLM.forward` takes it, padded on the left, its sequences ending with the assistant tag.
        name: the branch: `vanilla` without, `exemplar` with the exemplar.
        max_new_tokens: at which an answer is cut.
        end_id: the token that ends an answer.
        pad_id: what is fed behind it.

    Returns:
        The new ids of each row, without end and padding.
    """
    branch = batch["branches"][name]
    features = vlm.image_features(batch) if branch.get("image_index") else ()
    exemplars = vlm.connector(batch["exemplars"]) if branch["has_exemplar"] else None
    inputs = vlm.decoder_inputs(branch, features, exemplars)
    decoder, mask = vlm.base.get_submodule(vlm.family.language_model), branch["attention_mask"]
    cache = cache_arguments(decoder)
    axes, position = len(branch["position_ids"]), branch["position_ids"].amax((0, 2))
    ended = torch.zeros_like(position, dtype=torch.bool)
    answers: list[Tensor] = []
    while True:
        hidden = decoder(**inputs, attention_mask=mask, **cache).last_hidden_state
        token = vlm.head(hidden[:, -1]).float().argmax(-1).masked_fill(ended, pad_id)
        answers.append(token)
        ended = ended | (token == end_id)
        if len(answers) == max_new_tokens or ended.all():
            break
        position = position + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        step = {"input_ids": token[:, None], "position_ids": position[:, None].expand(axes, -1, -1)}
        inputs = vlm.decoder_inputs(step, ())
    rows = torch.stack(answers, dim=1).tolist()
    return [row[: row.index(end_id)] if end_id in row else row for row in rows]


def cache_arguments(decoder: nn.Module) -> dict[str, Any]:
    """Return the arguments that make a decoder fill and use a new cache; transformers 5.24 renamed one."""
    from transformers import DynamicCache

    name = "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"
    return {name: DynamicCache(config=decoder.config), "use_cache": True}
