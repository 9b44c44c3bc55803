from __future__ import annotations

import itertools

import pytest
import torch

from vitask.losses import BranchingMask, branching_mask
from vitask.losses import branching as module

from .reference import CLOSED_SET, branching

I = -100  # noqa: E741
END = 0


def test_by_hand():
    """Labels `a b c .`, `a b d .`, `a e .`, `f .`: what comes next is open at the start (a, f), after a (b, e) and
    after a b (c, d); everything else is settled.
    """
    a, b, c, d, e, f = range(1, 7)
    branches = BranchingMask([[a, b, c, END], [a, b, d, END], [a, e, END], [f, END]])
    labels = torch.tensor([[a, b, c, END], [a, b, d, END], [a, e, END, I], [f, END, I, I]])
    assert branches(labels).tolist() == [
        [True, True, True, False],
        [True, True, True, False],
        [True, True, False, False],
        [True, False, False, False],
    ]


def test_a_label_that_begins_another_branches_at_its_end_token():
    """`benign .` and `benign keratosis .`: the end-of-turn token is what tells them apart."""
    labels = torch.tensor([[4, END, I], [4, 5, END]])
    assert branching_mask(labels, [[4, END], [4, 5, END]]).tolist() == [[False, True, False], [False, True, False]]


def test_a_single_label_never_branches():
    assert not branching_mask(torch.tensor([[4, 5, END]]), [[4, 5, END]]).any()


def test_a_label_listed_twice_is_one_label():
    assert not branching_mask(torch.tensor([[4, END]]), [[4, END], [4, END]]).any()


def test_padding_on_either_side_moves_the_marks_along():
    tight = branching_mask(torch.tensor(CLOSED_SET[4]), CLOSED_SET)
    padded = torch.tensor([[I, I, *CLOSED_SET[4]], [*CLOSED_SET[4], I, I]])
    marks = branching_mask(padded, CLOSED_SET)
    assert torch.equal(marks[0, 2:], tight)
    assert torch.equal(marks[1, :5], tight)
    assert not marks[0, :2].any()
    assert not marks[1, 5:].any()


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3), (0, 3), (2, 0), (0,)])
def test_rows_without_response_and_any_leading_dimensions(shape):
    marks = branching_mask(torch.full(shape, I), CLOSED_SET)
    assert marks.shape == shape
    assert marks.dtype == torch.bool
    assert not marks.any()


def test_every_closed_set_of_short_labels_agrees_with_the_definition():
    """All sets of up to three labels of up to two tokens from an alphabet of two, each with its end token."""
    labels = [[*body, END] for n in (0, 1, 2) for body in itertools.product([1, 2], repeat=n)]
    for size in (1, 2, 3):
        for chosen in itertools.combinations(labels, size):
            rows = [label + [I] * (3 - len(label)) for label in chosen]
            assert branching_mask(torch.tensor(rows), list(chosen)).tolist() == branching(rows, list(chosen))


def test_a_label_outside_the_set_is_named():
    rows = torch.tensor([[3, 4, 0], [3, 7, 0]])
    with pytest.raises(ValueError, match=r"row 1 of labels, \[3, 7, 0\], is not one of the 5 labels"):
        branching_mask(rows, CLOSED_SET)


def test_a_truncated_label_is_outside_the_set():
    with pytest.raises(ValueError, match=r"row 0 of labels, \[3, 4\]"):
        branching_mask(torch.tensor([[3, 4, I]]), CLOSED_SET)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BranchingMask([]), "at least one label"),
        (lambda: BranchingMask([[1], []]), "no empty one"),
        (lambda: BranchingMask([[1, I]]), r"must not hold ignore_index \(-100\)"),
        (lambda: BranchingMask([[1]])(torch.tensor([1.0])), "labels must be integers"),
        (lambda: BranchingMask([[1]])(torch.tensor(1)), "got a scalar"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_closed_set_is_prepared_once():
    module._remembered.cache_clear()
    for labels in (CLOSED_SET, [tuple(label) for label in CLOSED_SET], [torch.tensor(label) for label in CLOSED_SET]):
        branching_mask(torch.tensor([[1, 0]]), labels)
    assert module._remembered.cache_info().misses == 1
    assert module._remembered.cache_info().hits == 2


def test_another_ignore_index():
    marks = branching_mask(torch.tensor([[-1, 1, 0]]), CLOSED_SET, ignore_index=-1)
    assert marks.tolist() == [[False, True, False]]
