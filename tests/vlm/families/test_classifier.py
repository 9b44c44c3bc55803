"""The linear head reads the very hidden state that predicts an answer's first token, in every family."""

from __future__ import annotations

import pytest
import torch

from vitask.vlm.classifier import VLMClassifier, prompt_branch

from .batches import distance, make_prompts, make_vlm, plain, shared

ALL = slice(None)


def ask(species, vlm, rows=ALL) -> dict:
    prompts = make_prompts(species)[rows]
    return {"prompts": prompt_branch(prompts, species.prompter), **shared(species, vlm, prompts)}


@torch.no_grad()
def test_with_the_rows_of_the_output_layer_it_gives_the_first_token_s_logits(species):
    vlm = make_vlm(species, dtype=torch.float64)
    output = vlm.base.get_output_embeddings().weight
    model = VLMClassifier(vlm, len(output)).double()
    model.classifier.weight.data, model.classifier.bias.data = output.data.clone(), torch.zeros(len(output)).double()
    expected = vlm(plain(species, vlm, ["vanilla"], labels=()))["vanilla"][:, 0]
    assert distance(expected, model(ask(species, vlm))) < 1e-12


@torch.no_grad()
def test_padding_and_the_other_images_change_nothing(species):
    vlm = make_vlm(species, dtype=torch.float64)
    torch.manual_seed(0)
    model = VLMClassifier(vlm, 4).double()
    together = model(ask(species, vlm))
    for row in range(len(together)):
        assert distance(together[row : row + 1], model(ask(species, vlm, slice(row, row + 1)))) < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_head_computes_in_its_own_dtype(species, dtype):
    vlm = make_vlm(species, dtype=dtype)
    model = VLMClassifier(vlm, 3)
    logits = model(ask(species, vlm))
    logits.sum().backward()
    assert (logits.dtype, logits.shape) == (torch.float32, (3, 3))
    assert all(p.grad is not None for name, p in vlm.named_parameters() if "lora_B" in name)
