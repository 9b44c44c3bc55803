"""The packed form against the plain one, losses and every gradient, and what would break it."""

from __future__ import annotations

import pytest
import torch

from vitask.vlm import packed as packed_form
from vitask.vlm.adapt import checkpoint_activations
from vitask.vlm.inputs import Placement

from .batches import distance, make_vlm, outcome, packed, plain
from .zoo import ZOO

PLACEMENTS = [
    *(Placement(position, tokens) for position in ("after_image", "before_assistant") for tokens in (1, 3)),
    Placement("replace_image", 2),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def assert_agree(one, other, tolerance):
    for name, value in one.items():
        assert value.abs().max() > 0, name
        assert distance(value, other[name]) < tolerance, name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda p: f"{p.position}-{p.tokens}")
def test_packed_and_plain_agree(species, placement, dtype):
    vlm = make_vlm(species, placement, dtype=dtype)
    expected = outcome(species, vlm, plain(species, vlm))
    assert_agree(expected, outcome(species, vlm, packed(species, vlm)), TOLERANCE[dtype])


def test_they_agree_under_gradient_checkpointing(species):
    vlm = make_vlm(species, PLACEMENTS[0], dtype=torch.float64)
    expected = outcome(species, vlm, plain(species, vlm))
    checkpoint_activations(vlm.base, species.family)
    vlm.train()
    for form in (plain, packed):
        assert_agree(expected, outcome(species, vlm, form(species, vlm)), 1e-12)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_they_agree_under_eager_attention(name):
    vlm = make_vlm(ZOO[name], PLACEMENTS[1], attention="eager")
    assert packed_form.attention_name(vlm.base) == "eager"
    expected = outcome(ZOO[name], vlm, plain(ZOO[name], vlm))
    assert_agree(expected, outcome(ZOO[name], vlm, packed(ZOO[name], vlm)), 1e-5)


def causal_mask(species, batch, monkeypatch):
    def causal(segments, ancestors):
        return (
            torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril().expand(len(segments), 1, -1, -1)
        )

    monkeypatch.setattr(packed_form, "tree_mask", causal)


def running_positions(species, batch, monkeypatch):
    """Behind the image, count through the whole row."""
    rows = batch["packed"]
    for row, ids in enumerate(rows["input_ids"]):
        places = rows["position_ids"][:, row]
        first = int((ids == species.prompter.image_token_id).nonzero().max()) + 1
        places[:, first:] = places[:, :first].max() + 1 + torch.arange(len(ids) - first)


def boolean_mask_for_eager(species, batch, monkeypatch):
    monkeypatch.setattr(packed_form, "additive", lambda mask, dtype: mask)


@pytest.mark.parametrize("spoil", [causal_mask, running_positions, boolean_mask_for_eager], ids=lambda s: s.__name__)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_what_they_need_to_agree(name, spoil, monkeypatch):
    species = ZOO[name]
    vlm = make_vlm(species, PLACEMENTS[0], attention="eager" if spoil is boolean_mask_for_eager else "sdpa")
    expected = outcome(species, vlm, plain(species, vlm))
    batch = packed(species, vlm)
    spoil(species, batch, monkeypatch)
    spoiled = outcome(species, vlm, batch)
    assert all(distance(expected[branch], spoiled[branch]) > 1e-2 for branch in ("exemplar", "negative", "labels"))
