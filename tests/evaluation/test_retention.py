"""What a VLM still knows: perplexity and exact match, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vitask.evaluation.retention import answer_prompts, retention_metrics
from vitask.evaluation.scoring import encode, score_responses

from ..vlm.tiny import make_prompts, make_vlm, tiny_prompter

ANSWERS = ("one", "two, three", "a longer answer")


def test_perplexity_is_over_tokens_not_over_answers():
    tokens = [torch.tensor([0.5, 0.25]).log(), torch.tensor([0.125]).log()]
    found = retention_metrics(tokens, ["a ring", "A star"], ["a ring", "a star"])
    assert found["perplexity"] == pytest.approx((2 * 4 * 8) ** (1 / 3))
    assert found["exact_match"] == 0.5


def test_right_answers_are_read_and_own_answers_given():
    vlm, prompts = make_vlm().train(), make_prompts()
    tokens, texts = answer_prompts(vlm, tiny_prompter(), prompts, ANSWERS)
    assert not vlm.training
    for row, (own, answer) in enumerate(zip(tokens, ANSWERS, strict=True)):
        response = tiny_prompter().response(answer)
        images = encode(vlm, tiny_prompter(), [prompts[row]])
        whole = score_responses(vlm, tiny_prompter(), [prompts[row]], [response], images)
        assert len(own) == len(response)
        assert own.sum().item() == pytest.approx(whole.item(), abs=1e-4)
    for row, text in enumerate(texts):
        assert answer_prompts(vlm, tiny_prompter(), [prompts[row]], [ANSWERS[2]])[1] == [text]


def test_an_impossible_answer_gives_a_large_figure_and_no_error():
    found = retention_metrics([torch.tensor([-1e6])], [""], ["a ring"])
    assert math.isfinite(found["perplexity"])
