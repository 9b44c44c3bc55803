from __future__ import annotations

import pytest
import torch

from vitask.losses import IGNORE_INDEX
from vitask.training.vitask_data import NO_NEGATIVE, pad_responses
from vitask.vlm.inputs import Placement

from ..vlm.tiny import make_vlm, picture, tiny_prompter
from .tiny_task import ANSWERS, LABELS, exemplar_features, make_data, make_toy_task, teacher_logits

PLACEMENT = Placement("after_image", 2)


def pixels_of(batch, name: str) -> torch.Tensor:
    """The pictures that the rows of a branch look at."""
    return batch["images"]["pixel_values"][torch.tensor(batch["branches"][name]["image_index"])]


def pixels(index: int) -> torch.Tensor:
    return tiny_prompter().prompt(picture(index), "Which?").images["pixel_values"][0]


@pytest.mark.parametrize("negatives", ["dataset", "batch"])
def test_negatives_have_other_answers_and_change_with_the_epoch(negatives):
    data = make_data(negatives=negatives)
    drawn = []
    for epoch in range(3):
        (keys,) = data.keys(epoch, [list(range(len(ANSWERS)))])
        assert [index for _, index, _ in keys] == list(range(len(ANSWERS)))
        assert all(ANSWERS[index] != ANSWERS[negative] for _, index, negative in keys)
        assert {number for number, _, _ in keys} == {epoch}
        drawn.append(keys)
    assert drawn[0] != drawn[1] != drawn[2]
    assert drawn == [data.keys(epoch, [list(range(len(ANSWERS)))])[0] for epoch in range(3)]


def test_batch_negatives_come_from_their_own_step():
    steps = [[9, 1, 3], [2, 8, 0], [6, 7]]
    for step, keys in zip(steps, make_data(negatives="batch").keys(0, steps), strict=True):
        assert [index for _, index, _ in keys] == step
        assert {negative for _, _, negative in keys} <= {*step, NO_NEGATIVE}
    assert [negative for _, _, negative in keys] == [NO_NEGATIVE, NO_NEGATIVE]
    assert all(negative != NO_NEGATIVE for keys in make_data().keys(0, steps) for _, _, negative in keys)


def test_a_stage_without_crt_draws_no_negative():
    data = make_data(("vanilla",), packed=False)
    (keys,) = data.keys(0, [[3, 1]])
    assert keys == [(0, 3, NO_NEGATIVE), (0, 1, NO_NEGATIVE)]
    batch = data.collate([data[key] for key in keys])
    assert batch["branches"].keys() == {"vanilla"}
    assert "exemplars" not in batch
    assert not batch["has_negative"].any()


def test_rows_align_ids_labels_exemplars_and_images():
    data = make_data(placement=PLACEMENT, packed=False)
    keys = [(4, 0), (2, NO_NEGATIVE), (0, 4), (3, 4)]
    batch = data.collate([data[(0, *key)] for key in keys])
    assert batch["id"].tolist() == [4, 2, 0, 3]
    assert batch["has_negative"].tolist() == [True, False, True, True]
    assert torch.equal(batch["exemplars"], exemplar_features()[[4, 2, 0, 3]])
    for row, (index, negative) in enumerate(keys):
        response = tiny_prompter().response(LABELS[ANSWERS[index]])
        assert batch["labels"][row][batch["labels"][row] != IGNORE_INDEX].tolist() == list(response)
        looks_at = {"vanilla": index, "exemplar": index, "negative": index if negative < 0 else negative}
        for name, branch in batch["branches"].items():
            assert torch.equal(pixels_of(batch, name)[row], pixels(looks_at[name]))
            answers = branch["answer_positions"][row, : len(response)] + 1
            assert branch["input_ids"][row, answers].tolist() == list(response)
            assert branch["exemplar_mask"][row].sum() == (2 if name == "exemplar" else 0)


def test_an_image_is_in_the_batch_once_however_often_it_is_used():
    for packed in (True, False):
        data = make_data(placement=PLACEMENT, packed=packed)
        batch = data.collate([data[(0, *key)] for key in [(4, 0), (0, 4), (3, 4), (1, 7)]])
        assert len(batch["images"]["pixel_values"]) == 5 == len(batch["image_tokens"])
        if packed:
            assert batch["packed"]["image_index"] == [0, 1, 2, 3, 4]
            assert batch["packed"]["exemplar_mask"].sum(-1).tolist() == [2, 2, 2, 2, 0]
        else:
            assert max(batch["branches"]["negative"]["image_index"]) == 4


@pytest.mark.parametrize("negatives", ["dataset", "batch"])
def test_both_forms_of_a_batch_ask_the_same(negatives):
    names = ("vanilla", "exemplar", "negative", "labels")
    vlm = make_vlm("after_image", 2)
    forms = [make_data(names, PLACEMENT, negatives, packed=packed) for packed in (True, False)]
    (keys,) = forms[0].keys(0, [[4, 2, 0, 3]])
    packed, plain = (data.collate([data[key] for key in keys]) for data in forms)
    for name, value in {k: v for k, v in plain.items() if k in ("id", "labels", "has_negative")}.items():
        assert torch.equal(packed[name], value)
    outputs, expected = vlm(packed), vlm(plain)
    valid = plain["labels"] != IGNORE_INDEX
    for name in names[:3]:
        torch.testing.assert_close(outputs[name][valid], expected[name][valid], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs["labels"], expected["labels"], rtol=1e-5, atol=1e-4)


def test_the_closed_set_says_which_candidate_is_true_and_what_the_teacher_thinks():
    data = make_data(("labels",), limit=2)
    batch = data.collate([data[5, index, NO_NEGATIVE] for index in range(len(ANSWERS))])
    closed = batch["closed_set"]["single"]
    chosen = [data.candidates.draw(5, index, answer) for index, answer in enumerate(ANSWERS)]
    assert {len(candidates) for candidates in chosen} == {2}
    assert [c[t] for c, t in zip(chosen, closed["targets"].tolist(), strict=True)] == ANSWERS
    assert torch.equal(closed["teacher"], teacher_logits().gather(1, torch.tensor(chosen)))
    assert closed["valid"].all()
    assert "membership" not in closed


def test_padding_of_responses_is_ignored_by_the_losses():
    assert pad_responses([(1, 2, 3), (4,)]).tolist() == [[1, 2, 3], [4, IGNORE_INDEX, IGNORE_INDEX]]


def test_length_is_that_of_the_training_split():
    assert len(make_data()) == len(make_toy_task().splits["train"]) == len(ANSWERS)
