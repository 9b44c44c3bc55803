from __future__ import annotations

import pytest
import torch

from vitask.evaluation import closed_set
from vitask.evaluation.closed_set import answer_images, label_probabilities
from vitask.evaluation.scoring import score_responses
from vitask.vlm.inputs import stack_images

from ..vlm.tiny import make_exemplars, make_prompts, make_vlm, tiny_prompter

ANSWERS = ("one", "two, three", "a longer answer")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def answer(batch_size: int, exemplar: bool = True, position: str = "after_image", **options):
    vlm, prompts = make_vlm(position, 2).train(), make_prompts(7)
    exemplars = make_exemplars(vlm, 7) if exemplar else None
    responses = [tiny_prompter().response(text) for text in ANSWERS]
    options = {"exemplars": exemplars, "batch_size": batch_size, **options}
    batches = list(answer_images(vlm, tiny_prompter(), prompts, responses, **options))
    assert not vlm.training
    assert [len(scores) for scores, _ in batches][:-1] == [batch_size] * (len(batches) - 1)
    return torch.cat([scores for scores, _ in batches]), [text for _, texts in batches for text in texts]


@pytest.mark.parametrize("exemplar", [True, False])
def test_batch_size_changes_no_answer(exemplar):
    expected, texts = answer(7, exemplar)
    assert expected.shape == (7, 3)
    assert len(texts) == 7
    for size in (1, 3):
        scores, same = answer(size, exemplar)
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-4)
        assert same == texts


def test_exemplars_are_used_when_given_and_only_then():
    with_exemplar, without = answer(7)[0], answer(7, exemplar=False)[0]
    assert (with_exemplar - without).abs().max() > 1e-2
    vlm = make_vlm("after_image", 2)
    responses = [tiny_prompter().response(text) for text in ANSWERS]
    prompts = make_prompts(7)
    scores = score_responses(vlm, tiny_prompter(), prompts, responses, stack_images(prompts, tiny_prompter()))
    torch.testing.assert_close(scores, without)


def test_free_text_is_left_out_on_request():
    scores, texts = answer(7, with_text=False)
    assert texts == []
    assert torch.equal(scores, answer(7)[0])


def test_generated_answers_may_be_a_little_longer_than_the_longest_candidate(monkeypatch):
    asked = []
    monkeypatch.setattr(closed_set, "generate", lambda *args, **options: asked.append(options) or [[]] * 7)
    answer(7)
    (options,) = asked
    longest = max(len(tiny_prompter().response(text)) for text in ANSWERS)
    assert options["max_new_tokens"] == longest + closed_set.SPARE_TOKENS
    assert options["end_id"] == tiny_prompter().end_id


def test_log_likelihoods_become_label_probabilities():
    scores = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, -torch.inf]]).log_softmax(-1) - 3.0
    single = label_probabilities(scores, [(0,), (1,), (2,)], 3)
    e = torch.e / (1 + torch.e)
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [e, 1 - e, 0]], dtype=torch.float64)
    torch.testing.assert_close(single, expected, rtol=1e-6, atol=1e-7)


def test_label_probabilities_of_sets_are_marginals():
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    marginals = label_probabilities(scores, [(), (0,), (0, 2), (1, 2)], 4)
    assert marginals.tolist()[0] == pytest.approx([0.5, 0.4, 0.7, 0.0])
