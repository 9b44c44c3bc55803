from __future__ import annotations

import pytest
import torch

from vitask.vlm.inputs import POSITIONS, Placement, build_prefix, make_branch, pad_sequences, stack_images
from vitask.vlm.prompts import Prompt

from .tiny import full_logits, make_batch, make_prompts, make_vlm, tiny_prompter

IMAGE, PAD = 90, 91
HEAD = (1, 2, IMAGE, IMAGE, 3, IMAGE)
PROMPT = Prompt(HEAD, body=(4, 5), tag=(6, 7), positions=torch.arange(6)[None], images={}, image_tokens=3)
ORDER = {
    None: [1, 2, IMAGE, IMAGE, 3, IMAGE, 4, 5, 6, 7],
    ("after_image", 1): [1, 2, IMAGE, IMAGE, 3, IMAGE, -1, 4, 5, 6, 7],
    ("after_image", 3): [1, 2, IMAGE, IMAGE, 3, IMAGE, -1, -2, -3, 4, 5, 6, 7],
    ("before_assistant", 2): [1, 2, IMAGE, IMAGE, 3, IMAGE, 4, 5, -1, -2, 6, 7],
    ("replace_image", 1): [1, 2, -1, 3, 4, 5, 6, 7],
    ("replace_image", 2): [1, 2, -1, -2, 3, 4, 5, 6, 7],
}
KEYS = ("input_ids", "attention_mask", "exemplar_mask", "answer_positions")


def prefix(key, prompt=PROMPT):
    return build_prefix(prompt, Placement(*key) if key else None, IMAGE)


@pytest.mark.parametrize("key", ORDER, ids=str)
def test_tokens_slots_and_response_stand_where_the_placement_says(key):
    built = prefix(key)
    assert list(built.keys) == ORDER[key]
    assert built.positions.tolist() == [list(range(len(built.keys)))]
    answered = built.followed_by((8, 9))
    assert list(answered.keys) == [*ORDER[key], 8, 9]
    assert answered.positions.tolist() == [list(range(len(built.keys) + 2))]


@pytest.mark.parametrize("key", ORDER, ids=str)
def test_text_goes_on_from_the_largest_position_of_the_image_on_every_axis(key):
    positions = torch.tensor([[0, 1, 2, 2, 2, 2], [0, 1, 2, 2, 3, 3], [0, 1, 2, 5, 2, 3]])
    built = prefix(key, Prompt(HEAD, (4, 5), (6, 7), positions, {}, 3)).followed_by((8,))
    kept = 2 if key and key[0] == "replace_image" else 6
    start = int(positions[:, :kept].max()) + 1
    assert torch.equal(built.positions[:, :kept], positions[:, :kept])
    assert torch.equal(built.positions[:, kept:], torch.arange(start, start + len(built.keys) - kept).expand(3, -1))


@pytest.mark.parametrize("left", [False, True])
def test_padding_keeps_slots_and_answer_positions_on_their_tokens(left):
    responses = [(8, 9), (8,), ()]
    places = [("after_image", 2), ("replace_image", 2), ("before_assistant", 2)]
    rows = [prefix(key).followed_by(response) for key, response in zip(places, responses, strict=True)]
    branch = pad_sequences(rows, [2, 1, 0], pad_id=PAD, left=left)
    assert branch["answer_positions"].shape == (3, 2)
    for number, row in enumerate(rows):
        ids, mask, slots, answers = (branch[key][number] for key in KEYS)
        assert [key if key >= 0 else PAD for key in row.keys] == ids[mask == 1].tolist()
        assert torch.equal(branch["position_ids"][:, number, mask == 1], row.positions)
        assert (ids[mask == 0] == PAD).all()
        assert (mask.diff() >= 0).all() if left else (mask.diff() <= 0).all()
        assert ids[slots].tolist() == [PAD, PAD]
        count = len(responses[number])
        assert ids[answers[:count] + 1].tolist() == list(responses[number])
        assert (answers[count:] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_logits_at_the_answer_positions_predict_the_response(position, left):
    vlm = make_vlm(position, 2)
    answers = ("one", "a longer answer", "two, three")
    batch = make_batch(vlm, ["exemplar"], answers, left=left)
    whole, response = full_logits(vlm, batch, "exemplar"), vlm(batch)["exemplar"]
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
    assert branch.keys() == {*KEYS, "position_ids", "has_exemplar"}


def test_images_of_several_prompts_are_stacked_in_order():
    prompts = make_prompts(3)
    stacked = stack_images(prompts, tiny_prompter())
    assert stacked["image_tokens"] == [16, 16, 16]
    for row, prompt in enumerate(prompts):
        assert torch.equal(stacked["images"]["pixel_values"][row], prompt.images["pixel_values"][0])


@pytest.mark.parametrize(("arguments", "words"), [(("before", 1), "before_assistant"), (("after_image", 0), "not 0")])
def test_placement_refuses_what_it_does_not_know(arguments, words):
    with pytest.raises(ValueError, match=words):
        Placement(*arguments)
