"""The likelihood of every token of a response, against one full forward of one sequence."""

from __future__ import annotations

import pytest
import torch

from vitask.evaluation import scoring, teacher_forcing
from vitask.evaluation.scoring import encode
from vitask.evaluation.teacher_forcing import response_tokens
from vitask.vlm import packed
from vitask.vlm.inputs import make_branch, stack_images

from ..vlm.tiny import make_hf, make_prompts, make_vlm, tiny_prompter

ASKED = (("one", "a much longer response"), ("two, three",), ("one", "one hundred", "one"))


def responses() -> list[list[tuple[int, ...]]]:
    return [[tiny_prompter().response(text) for text in texts] for texts in ASKED]


def found(vlm) -> list[list[torch.Tensor]]:
    prompts = make_prompts()
    return response_tokens(vlm, tiny_prompter(), prompts, responses(), encode(vlm, tiny_prompter(), prompts))


@torch.no_grad()
def full_forward(vlm, row: int, response: tuple[int, ...]) -> list[float]:
    prompt = make_prompts()[row]
    branch = make_branch([prompt], [response], None, [0], tiny_prompter())
    features = vlm.image_features(stack_images([prompt], tiny_prompter()))
    logits = vlm.vlm(inputs_embeds=vlm.decoder_inputs(branch, features)["inputs_embeds"]).logits[0].double()
    start = len(logits) - len(response) - 1
    return [logits[start + t].log_softmax(-1)[token].item() for t, token in enumerate(response)]


@pytest.mark.parametrize("text", ["qwen2", "llama"])
def test_every_token_has_the_likelihood_of_a_full_forward(text):
    vlm = make_vlm(model=make_hf(text))
    for row, (own, expected) in enumerate(zip(found(vlm), responses(), strict=True)):
        assert [len(tokens) for tokens in own] == [len(response) for response in expected]
        for tokens, response in zip(own, expected, strict=True):
            assert tokens.tolist() == pytest.approx(full_forward(vlm, row, response), abs=1e-4)


def test_a_model_that_takes_no_tree_mask_gives_the_same(monkeypatch):
    vlm = make_vlm()
    whole = found(vlm)
    monkeypatch.setattr(packed, "MASKED_ATTENTION", ())
    monkeypatch.setattr(teacher_forcing, "pack", None)
    monkeypatch.setattr(teacher_forcing, "SEQUENCES", 2)
    for own, others in zip(found(vlm), whole, strict=True):
        for tokens, expected in zip(own, others, strict=True):
            torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)


def test_logits_are_taken_a_few_at_a_time(monkeypatch):
    vlm = make_vlm()
    whole = found(vlm)
    seen, head = [], vlm.head
    monkeypatch.setattr(vlm, "head", lambda hidden: seen.append(len(hidden)) or head(hidden))
    monkeypatch.setattr(scoring, "LOGIT_VALUES", 3 * 576)
    for own, others in zip(found(vlm), whole, strict=True):
        for tokens, expected in zip(own, others, strict=True):
            torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    assert max(seen) == 3
