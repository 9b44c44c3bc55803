"""Closed-set scoring by one trie, against one full forward a label."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitask.evaluation import scoring
from vitask.evaluation.scoring import score_responses
from vitask.vlm import packed
from vitask.vlm.inputs import POSITIONS, make_branch, stack_images

from ..vlm.tiny import make_exemplars, make_hf, make_prompts, make_vlm, tiny_prompter

CANDIDATES = ("one", "two, three", "a much longer candidate", "t", "one hundred")


def responses(texts=CANDIDATES) -> list[tuple[int, ...]]:
    return [tiny_prompter().response(text) for text in texts]


@torch.no_grad()
def score(vlm, exemplar: bool, candidates=None) -> Tensor:
    prompts, images = make_prompts(), stack_images(make_prompts(), tiny_prompter())
    exemplars = make_exemplars(vlm, 3) if exemplar else None
    return score_responses(vlm, tiny_prompter(), prompts, candidates or responses(), images, exemplars)


@torch.no_grad()
def log_likelihood(vlm, exemplar: bool, row: int, response: tuple[int, ...]) -> float:
    """Sum of log p over the response's tokens, from one full forward of one row without padding."""
    prompt, placement = make_prompts()[row], vlm.placement if exemplar else None
    branch = make_branch([prompt], [response], placement, [0], tiny_prompter())
    exemplars = vlm.connector(make_exemplars(vlm, 3)[row : row + 1]) if exemplar else None
    features = vlm.image_features(stack_images([prompt], tiny_prompter()))
    logits = vlm.vlm(inputs_embeds=vlm.decoder_inputs(branch, features, exemplars)["inputs_embeds"]).logits[0]
    start = logits.shape[0] - len(response) - 1
    return sum(logits[start + t].log_softmax(-1)[token].item() for t, token in enumerate(response))


def expected(vlm, exemplar: bool, candidates=None) -> Tensor:
    rows = [[log_likelihood(vlm, exemplar, row, r) for r in candidates or responses()] for row in range(3)]
    return torch.tensor(rows)


@pytest.mark.parametrize(("exemplar", "position"), [(False, None), *((True, place) for place in POSITIONS)])
def test_scores_equal_one_full_forward_a_label(exemplar, position):
    vlm = make_vlm(position, 2)
    assert len(set(map(len, responses()))) > 2
    scores = score(vlm, exemplar)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected(vlm, exemplar), rtol=1e-5, atol=1e-5)


def test_scores_with_a_llama_text_model():
    vlm = make_vlm(model=make_hf("llama"))
    torch.testing.assert_close(score(vlm, True), expected(vlm, True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 9, 20])
@pytest.mark.parametrize("values", [1, 5 * 576])
def test_chunks_of_answers_and_logits_change_no_score(tokens, values, monkeypatch):
    vlm = make_vlm()
    whole = score(vlm, True)
    passes, decode = [], vlm.decode
    monkeypatch.setattr(vlm, "decode", lambda *args: passes.append(1) or decode(*args))
    monkeypatch.setattr(scoring, "ANSWER_TOKENS", tokens)
    monkeypatch.setattr(scoring, "LOGIT_VALUES", values)
    torch.testing.assert_close(score(vlm, True), whole, rtol=1e-5, atol=1e-5)
    assert len(passes) > 1


def test_a_set_that_fits_takes_one_pass_whatever_it_holds(monkeypatch):
    vlm = make_vlm()
    passes, decode = [], vlm.decode
    monkeypatch.setattr(vlm, "decode", lambda *args: passes.append(1) or decode(*args))
    for candidates in ([(11,), (12,), (13,)], responses(), responses(("one",))):
        passes.clear()
        torch.testing.assert_close(
            score(vlm, False, candidates), expected(vlm, False, candidates), rtol=1e-5, atol=1e-5
        )
        assert len(passes) == 1


def test_a_thousand_labels():
    vlm = make_vlm()
    labels = responses([f"kind {number}" for number in range(1000)])
    scores = score(vlm, False, labels)
    some = [0, 1, 499, 998, 999]
    torch.testing.assert_close(scores[:, some], score(vlm, False, [labels[i] for i in some]), rtol=1e-5, atol=1e-5)
    assert scores.shape == (3, 1000)


def test_a_model_that_takes_no_tree_mask_is_scored_label_by_label(monkeypatch):
    vlm = make_vlm()
    trie = {exemplar: score(vlm, exemplar) for exemplar in (True, False)}
    monkeypatch.setattr(packed, "MASKED_ATTENTION", ())
    monkeypatch.setattr(scoring, "pack", None)
    for exemplar, scores in trie.items():
        torch.testing.assert_close(score(vlm, exemplar), scores, rtol=1e-5, atol=1e-5)
