"""Which answers a sample is scored against."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vitask.data import Answer
from vitask.training.candidates import Candidates


def many(labels: int = 40, multi_label: bool = False):
    sets = [(i,) for i in range(labels)] if not multi_label else [(), (0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    count = labels if not multi_label else 3
    answers = [Answer(str(members), members) for members in sets]
    return SimpleNamespace(
        answers=answers,
        candidates=len(sets),
        labels=tuple(str(i) for i in range(count)),
        multi_label=multi_label,
        members=(),
    )


def test_a_small_closed_set_is_scored_whole():
    for limit in (None, 40, 41):
        assert Candidates(many(), limit, seed=0).draw(0, 3, truth=7) == list(range(40))


def test_the_truth_and_the_favourites_of_the_teacher_are_always_there_and_the_rest_is_drawn_anew():
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    candidates = Candidates(many(), 8, seed=0, teacher_logits=logits)
    drawn = [candidates.draw(epoch, 2, truth=7) for epoch in range(200)]
    favourites = set(logits[2].topk(4).indices.tolist())
    for chosen in drawn:
        assert len(set(chosen)) == 8
        assert chosen == sorted(chosen)
        assert {7, *favourites} <= set(chosen)
    assert drawn[:50] == [candidates.draw(epoch, 2, truth=7) for epoch in range(50)]
    assert {label for chosen in drawn for label in chosen} == set(range(40))


def test_without_a_teacher_the_rest_is_uniform():
    candidates = Candidates(many(), 8, seed=0)
    counts = torch.zeros(40)
    for epoch in range(2000):
        counts[candidates.draw(epoch, 0, truth=0)] += 1
    assert counts[0] == 2000
    expected = 2000 * 7 / 39
    assert ((counts[1:] - expected).abs() < 5 * expected**0.5).all()


def test_answers_with_several_labels_are_ranked_by_their_labels_and_described_by_them():
    logits = torch.tensor([[2.0, -1.0, 1.0], [-3.0, -2.0, -1.0]])
    candidates = Candidates(many(multi_label=True), 4, seed=0, teacher_logits=logits)
    assert {0, 4} <= set(candidates.draw(0, 0, truth=0))
    assert {1, 0} <= set(candidates.draw(0, 1, truth=1))
    described = candidates.describe([[0, 4], [1, 6]], [0, 1], [4, 6])["several"]
    assert described["targets"].tolist() == [[1, 0, 1], [1, 1, 1]]
    assert described["membership"].tolist() == [
        [[False, False, False], [True, False, True]],
        [[True, False, False], [True, True, True]],
    ]
    odds = torch.tensor([[3.0, -torch.inf, 3.0], [torch.inf, -3.0, -3.0]])  # of sets: 0 or 2 + 1, -3 or -3 - 2 - 1
    torch.testing.assert_close(described["teacher"], odds)


@pytest.mark.parametrize("multi_label", [True, False])
def test_without_a_teacher_none_is_described(multi_label):
    kinds = Candidates(many(multi_label=multi_label), None, seed=0).describe([[0, 1]], [0], [1])
    assert kinds.keys() == {"several" if multi_label else "single"}
    assert all("teacher" not in kind for kind in kinds.values())


def test_the_columns_of_a_batch_are_its_answers():
    columns = Candidates.columns([[3, 4, 5], [4, 9], [3, 4, 5]], [4, 9, 3])
    assert columns["places"].tolist() == [[0, 1, 2], [1, 3, 4], [0, 1, 2]]
    assert columns["scored"].int().tolist() == [[1, 1, 1, 0], [0, 1, 0, 1], [1, 1, 1, 0]]
    assert columns["targets"].tolist() == [1, 3, 0]


def test_sets_that_share_their_labels_read_their_own_columns_of_the_teacher():
    """Sets of 3, 3 and 4 labels, the second with the labels of the first: 7 columns, 10 answers."""
    first, second = many(3), many(3)
    third = many(4)
    third.labels = tuple("abcd")
    task = SimpleNamespace(members=(first, second, third), labels=(*first.labels, *third.labels))
    task.answers = [Answer(str(label), (label,)) for labels in (range(3), range(3), range(3, 7)) for label in labels]
    logits = torch.arange(7.0).expand(2, 7)
    candidates = Candidates(task, None, seed=0, teacher_logits=logits)
    chosen = [candidates.draw(0, 0, truth=4), candidates.draw(0, 1, truth=9)]
    assert chosen == [[3, 4, 5], [6, 7, 8, 9]]
    described = candidates.describe(chosen, [0, 1], [4, 9])["single"]
    assert described["targets"].tolist() == [1, 3]
    assert described["valid"].tolist() == [[True, True, True, False], [True, True, True, True]]
    assert described["teacher"][0, :3].tolist() == [0, 1, 2]
    assert described["teacher"][1].tolist() == [3, 4, 5, 6]
