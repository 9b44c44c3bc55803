from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitask.vlm import scoring
from vitask.vlm.inputs import POSITIONS, build_sequence
from vitask.vlm.scoring import generate, score_responses

from .tiny import make_batch, make_hf, make_prompts, make_vlm, tiny_prompter

CANDIDATES = ("one", "two, three", "a much longer candidate", "t", "one hundred")


def responses() -> list[tuple[int, ...]]:
    return [tiny_prompter().response(text) for text in CANDIDATES]


def one_row(vlm, batch: dict, name: str, row: int, ids: tuple[int, ...]) -> tuple[Tensor, int]:
    """Embeddings `(1, T, D)` of one sample's prompt and `ids`, without padding, and the prompt's length."""
    prompter, placement = tiny_prompter(), vlm.placement if name == "exemplar" else None
    built = build_sequence(make_prompts()[row], ids, placement, prompter.image_token_id, prompter.pad_id)
    branch = {"input_ids": torch.tensor([built.ids]), "exemplar_mask": torch.zeros(1, len(built.ids), dtype=torch.bool)}
    branch["exemplar_mask"][0, built.exemplar.start : built.exemplar.stop] = True
    if prompter.image_token_id in built.ids:
        branch["image_index"] = torch.tensor([row])
    exemplars = vlm.connector(batch["exemplars"][row : row + 1]) if placement else None
    features = vlm.encode_images(batch["images"]).split(batch["image_tokens"])
    return vlm.embed(branch, features, exemplars), built.response.start


@torch.no_grad()
def log_likelihood(vlm, batch: dict, name: str, row: int, response: tuple[int, ...]) -> float:
    """Sum of log p over the response's tokens, from one full forward."""
    embeddings, start = one_row(vlm, batch, name, row, response)
    logits = vlm.vlm(inputs_embeds=embeddings).logits[0]
    log_p = logits.log_softmax(-1)
    return sum(log_p[start - 1 + place, token].item() for place, token in enumerate(response))


def inference_batch(vlm, name: str, *, left: bool = False) -> dict:
    return make_batch(vlm, [name], (None, None, None), left=left)


@pytest.mark.parametrize(("name", "position"), [("vanilla", None), *(("exemplar", place) for place in POSITIONS)])
def test_scores_equal_one_full_forward_a_label(name, position):
    vlm = make_vlm(position, 2)
    batch = inference_batch(vlm, name)
    assert len(set(map(len, responses()))) > 2
    assert len(set(batch["branches"][name]["attention_mask"].sum(-1).tolist())) > 1
    scores = score_responses(vlm, batch, name, responses())
    expected = [[log_likelihood(vlm, batch, name, row, r) for r in responses()] for row in range(3)]
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_scores_with_a_llama_text_model():
    vlm = make_vlm(model=make_hf("llama"))
    batch = inference_batch(vlm, "exemplar")
    expected = [[log_likelihood(vlm, batch, "exemplar", row, r) for r in responses()] for row in range(3)]
    scores = score_responses(vlm, batch, "exemplar", responses())
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 6, 7])
def test_chunks_change_no_score(rows, monkeypatch):
    vlm = make_vlm()
    batch = inference_batch(vlm, "exemplar")
    expected = score_responses(vlm, batch, "exemplar", responses())
    monkeypatch.setattr(scoring, "MAX_ROWS", rows)
    chunked = score_responses(vlm, batch, "exemplar", responses())
    torch.testing.assert_close(chunked, expected, rtol=1e-5, atol=1e-5)


def test_single_token_labels_need_no_second_pass(monkeypatch):
    vlm = make_vlm()
    batch = inference_batch(vlm, "vanilla")
    short = [(11,), (12,), (13,)]
    expected = [[log_likelihood(vlm, batch, "vanilla", row, r) for r in short] for row in range(3)]
    passes = []
    decode = vlm.decode
    monkeypatch.setattr(vlm, "decode", lambda *args, **kwargs: passes.append(1) or decode(*args, **kwargs))
    scores = score_responses(vlm, batch, "vanilla", short)
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    assert len(passes) == 1


@torch.no_grad()
def greedy(vlm, batch: dict, name: str, row: int, steps: int, end: int) -> list[int]:
    """Argmax token by token, each from a full forward over everything so far."""
    ids: tuple[int, ...] = ()
    while len(ids) < steps:
        token = int(vlm.vlm(inputs_embeds=one_row(vlm, batch, name, row, ids)[0]).logits[0, -1].argmax())
        if token == end:
            break
        ids = (*ids, token)
    return list(ids)


@pytest.mark.parametrize("text", ["qwen2", "llama"])
@pytest.mark.parametrize("name", ["vanilla", "exemplar"])
def test_generation_is_argmax_step_by_step(name, text):
    vlm = make_vlm("before_assistant", 2, model=make_hf(text))
    vlm.base.generation_config.repetition_penalty = 5.0  # what a checkpoint recommends for chatting
    batch = inference_batch(vlm, name, left=True)
    free = [greedy(vlm, batch, name, row, 8, end=-1) for row in range(3)]
    assert all(len(ids) == 8 for ids in free)
    end = free[0][3]
    expected = [greedy(vlm, batch, name, row, 8, end) for row in range(3)]
    assert len(expected[0]) <= 3
    answered = generate(vlm, batch, name, max_new_tokens=8, end_id=end, pad_id=tiny_prompter().pad_id)
    assert answered == expected
