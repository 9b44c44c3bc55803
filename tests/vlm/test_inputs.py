from __future__ import annotations

import pytest
import torch

from vitask.vlm.inputs import POSITIONS, Placement, build_sequence, make_branch, pad_sequences, stack_images
from vitask.vlm.prompts import Prompt

from .tiny import full_logits, make_batch, make_prompts, make_vlm, tiny_prompter

IMAGE, SLOT = 90, 91
PROMPT = Prompt(head=(1, 2, IMAGE, IMAGE, 3, IMAGE), body=(4, 5), tag=(6, 7), images={}, image_tokens=3)
ORDER = {
    None: ([1, 2, IMAGE, IMAGE, 3, IMAGE, 4, 5, 6, 7, 8, 9], []),
    ("after_image", 1): ([1, 2, IMAGE, IMAGE, 3, IMAGE, SLOT, 4, 5, 6, 7, 8, 9], [6]),
    ("after_image", 3): ([1, 2, IMAGE, IMAGE, 3, IMAGE, SLOT, SLOT, SLOT, 4, 5, 6, 7, 8, 9], [6, 7, 8]),
    ("before_assistant", 2): ([1, 2, IMAGE, IMAGE, 3, IMAGE, 4, 5, SLOT, SLOT, 6, 7, 8, 9], [8, 9]),
    ("replace_image", 1): ([1, 2, SLOT, 3, 4, 5, 6, 7, 8, 9], [2]),
    ("replace_image", 2): ([1, 2, SLOT, SLOT, 3, 4, 5, 6, 7, 8, 9], [2, 3]),
}


def sequence(key, response=(8, 9)):
    return build_sequence(PROMPT, response, Placement(*key) if key else None, IMAGE, SLOT)


@pytest.mark.parametrize("key", ORDER, ids=str)
def test_tokens_slots_and_response_stand_where_the_placement_says(key):
    ids, slots = ORDER[key]
    built = sequence(key)
    assert list(built.ids) == ids
    assert list(built.exemplar) == slots
    assert [built.ids[i] for i in built.response] == [8, 9]


@pytest.mark.parametrize("left", [False, True])
def test_padding_keeps_slots_and_answer_positions_on_their_tokens(left):
    rows = [sequence(("after_image", 2)), sequence(("replace_image", 2), (8,)), sequence(("before_assistant", 2), ())]
    branch = pad_sequences(rows, pad_id=0, left=left)
    assert branch["answer_positions"].shape == (3, 2)
    for row, ids, mask, slots, answers in zip(rows, *(branch[key] for key in KEYS), strict=True):
        assert tuple(ids[mask == 1].tolist()) == row.ids
        assert (ids[mask == 0] == 0).all()
        assert (mask.diff() >= 0).all() if left else (mask.diff() <= 0).all()
        assert ids[slots].tolist() == [SLOT, SLOT]
        response = [row.ids[i] for i in row.response]
        assert ids[answers[: len(response)] + 1].tolist() == response
        assert (answers[len(response) :] == 0).all()


KEYS = ("input_ids", "attention_mask", "exemplar_mask", "answer_positions")


@torch.no_grad()
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_logits_at_the_answer_positions_predict_the_response(position, left):
    vlm = make_vlm(position, 2)
    answers = ("one", "a longer answer", "two, three")
    batch = make_batch(vlm, ["exemplar"], answers, left=left)
    whole, response = full_logits(vlm, batch, "exemplar"), vlm(batch, ["exemplar"])["exemplar"]
    ids = batch["branches"]["exemplar"]["input_ids"]
    for row, answer in enumerate(answers):
        tokens = tiny_prompter().response(answer)
        start = next(i for i in range(ids.shape[1]) if ids[row, i : i + len(tokens)].tolist() == list(tokens))
        expected = whole[row, start - 1 : start - 1 + len(tokens)]
        torch.testing.assert_close(response[row, : len(tokens)], expected, rtol=1e-5, atol=1e-5)


def test_rows_name_their_images_unless_the_exemplar_replaces_them():
    prompts, prompter = make_prompts(2), tiny_prompter()
    for position, holds_image in (("after_image", True), ("before_assistant", True), ("replace_image", False)):
        branch = make_branch(prompts, [(), ()], Placement(position, 1), [1, 0], prompter)
        assert ("image_index" in branch) == holds_image
        assert (branch["input_ids"] == prompter.image_token_id).any() == holds_image
    assert branch.keys() == set(KEYS)


def test_images_of_several_prompts_are_stacked_in_order():
    prompts = make_prompts(3)
    stacked = stack_images(prompts)
    assert stacked["image_tokens"] == [16, 16, 16]
    for row, prompt in enumerate(prompts):
        assert torch.equal(stacked["images"]["pixel_values"][row], prompt.images["pixel_values"][0])


@pytest.mark.parametrize(("arguments", "words"), [(("before", 1), "before_assistant"), (("after_image", 0), "not 0")])
def test_placement_refuses_what_it_does_not_know(arguments, words):
    with pytest.raises(ValueError, match=words):
        Placement(*arguments)
