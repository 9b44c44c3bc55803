from __future__ import annotations

from dataclasses import replace

import pytest

from vitask.data import answer_ranges, label_ranges, member_of_answer, members_of, mix
from vitask.errors import UsageError


def test_sets_stand_one_behind_the_other(toy):
    first = replace(toy([0, 1, 2, 1], val=[0, 1, 2]), name="first")
    second = replace(toy([1, 0], labels=("up", "down")), name="second")
    task = mix("both", [first, second])
    assert task.labels == ("red", "green", "blue", "up", "down")
    assert label_ranges(task) == answer_ranges(task) == [range(3), range(3, 5)]
    assert [answer.labels for answer in task.answers] == [(0,), (1,), (2,), (3,), (4,)]
    assert member_of_answer(task) == [0, 0, 0, 1, 1]
    train = task.splits["train"]
    assert len(train) == 6
    assert train["answer"][:] == [0, 1, 2, 1, 4, 3]
    assert train["id"][3:5] == ["first/train-3", "second/train-0"]
    assert len(train["image"]) == 6
    assert train["image"][5].size == (2, 2)
    assert len(task.splits["val"]) == 5
    with pytest.raises(IndexError):
        train["image"][6]


def test_sets_with_the_very_same_labels_share_their_classes_but_not_their_answers(toy):
    sets = [replace(toy([0, 1, 2]), name=name) for name in ("a", "b")]
    other = replace(toy([0, 1, 2], labels=("red", "green", "black")), name="c")
    task = mix("three", [sets[0], other, sets[1]])
    assert task.labels == ("red", "green", "blue", "red", "green", "black")
    assert label_ranges(task) == [range(3), range(3, 6), range(3)]
    assert answer_ranges(task) == [range(3), range(3, 6), range(6, 9)]
    assert [answer.labels for answer in task.answers[6:]] == [(0,), (1,), (2,)]
    assert task.splits["train"]["answer"][6:] == [6, 7, 8]


def test_sets_with_one_and_with_several_labels_an_image_share_no_classes(toy):
    one, several = replace(toy([0, 1, 2]), name="one"), replace(toy([[0], [1, 2]], multi_label=True), name="several")
    task = mix("both", [one, several, replace(one, name="again")])
    assert label_ranges(task) == [range(3), range(3, 6), range(3)]
    assert task.labels == (*one.labels, *several.labels)


def test_a_plain_task_is_its_own_only_set(toy):
    task = toy([0, 1, 2])
    assert members_of(task) == (task,)
    assert label_ranges(task) == [range(3)]


def test_any_change_of_a_set_changes_the_fingerprint(toy):
    first, second = (replace(toy(rows), name=name) for rows, name in (([0, 1, 2], "a"), ([0, 1, 2, 2], "b")))
    changed = replace(second, fingerprint="other")
    assert mix("m", [first, second]).fingerprint != mix("m", [first, changed]).fingerprint


def test_what_cannot_be_mixed_is_refused(toy):
    with pytest.raises(UsageError, match="at least two"):
        mix("one", [toy([0, 1, 2])])
    with pytest.raises(UsageError, match="two data sets are called 'toy'"):
        mix("twice", [toy([0, 1, 2]), toy([0, 1, 2])])
