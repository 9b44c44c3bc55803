"""The wrapper without exemplar against the untouched model, from the processor's own tensors."""

from __future__ import annotations

import pytest
import torch

from vitask.vlm.model import ExemplarVLM

from .batches import ANSWERS, all_logits, hub_inputs, make_prompts, plain
from .zoo import ZOO


def wrapped(species):
    return ExemplarVLM(species.model(), species.family).eval()


@torch.no_grad()
def test_logits_are_those_of_the_untouched_model(species):
    """A ragged batch of images of several sizes: all inputs the same, and all logits."""
    inputs = hub_inputs(species, ANSWERS)
    vlm = wrapped(species)
    batch = plain(species, vlm, ["vanilla"], labels=())
    branch = batch["branches"]["vanilla"]
    assert batch["images"].keys() == inputs.keys() - {"input_ids", "attention_mask", "mm_token_type_ids"}
    for key, value in {**batch["images"], **{k: branch[k] for k in ("input_ids", "attention_mask")}}.items():
        assert torch.equal(value, inputs[key]), key
    expected = species.model()(**inputs).logits
    found, seen = all_logits(vlm, batch, "vanilla"), inputs["attention_mask"] == 1
    assert torch.equal(found[seen], expected[seen])


@torch.no_grad()
def test_the_image_reaches_the_model(species):
    vlm = wrapped(species)
    logits = all_logits(vlm, plain(species, vlm, ["vanilla"], labels=()), "vanilla")
    blank = species.model()(**hub_inputs(species, ANSWERS, blank=True)).logits
    last = hub_inputs(species, ANSWERS)["attention_mask"].sum(-1) - 1
    assert ((logits - blank)[range(3), last].abs().amax(-1) > 1e-2).all()


@torch.no_grad()
def test_an_image_alone_has_the_features_it_has_in_a_batch(species):
    vlm, prompts = wrapped(species), make_prompts(species)
    batch = plain(species, vlm, ["vanilla"], labels=())
    for prompt, features in zip(prompts, vlm.image_features(batch), strict=True):
        alone = vlm.encode_images(prompt.images)
        assert alone.shape == features.shape == (prompt.image_tokens, *features.shape[1:])
        torch.testing.assert_close(alone, features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_positions_are_those_of_the_untouched_model(name):
    species = ZOO[name]
    inputs = hub_inputs(species, ANSWERS)
    expected, _ = species.model().model.get_rope_index(**inputs)
    branch = plain(species, wrapped(species), ["vanilla"], labels=())["branches"]["vanilla"]
    seen = inputs["attention_mask"] == 1
    assert branch["position_ids"].shape == expected.shape == (3, *seen.shape)
    assert torch.equal(branch["position_ids"][:, seen], expected[:, seen])
