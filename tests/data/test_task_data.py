import pytest

from vitask.data import Answer
from vitask.data.task import with_train
from vitask.errors import VitaskError


def test_single_label_has_one_answer_per_label_in_order(toy):
    task = toy([2, 0, 1, 0])
    assert task.answers == (Answer("red", (0,)), Answer("green", (1,)), Answer("blue", (2,)))
    assert task.candidates == 3
    assert task.splits["train"]["answer"][:] == [2, 0, 1, 0]
    assert list(task.splits["train"][0]) == ["id", "image", "answer"]


def test_multi_label_answers_are_train_sets_first_each_group_sorted(toy):
    task = toy([[2, 0], [1], [], [0, 2]], val=[[1, 0], []], test=[[1, 2], [2]], multi_label=True)
    assert [answer.text for answer in task.answers] == [
        "no finding",
        "red, blue",
        "green",
        "red, green",
        "green, blue",
        "blue",
    ]
    assert task.candidates == 3
    assert task.splits["train"]["answer"][:] == [1, 2, 0, 1]
    assert task.splits["test"]["answer"][:] == [4, 5]


def test_multi_label_separator_and_no_finding_text(toy):
    task = toy([[0, 1], [2], []], multi_label=True, separator=" and ", no_finding="nothing")
    assert [answer.text for answer in task.answers] == ["nothing", "red and green", "blue"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("red", " Red ", "blue"), r"toy: labels 0 \('red'\) and 1 \('Red'\) have the same text"),
        (("red", "  ", "blue"), "toy: the text of label 1 is empty"),
        (("red",), "at least 2 labels"),
    ],
)
def test_bad_label_texts(toy, labels, message):
    with pytest.raises(VitaskError, match=message):
        toy([0, 1, 2], labels=labels)


def test_label_texts_are_stripped(toy):
    assert toy([0, 1, 2], labels=(" red", "green ", "blue")).labels == ("red", "green", "blue")


def test_empty_modality(toy):
    with pytest.raises(VitaskError, match="modality is empty"):
        toy([0, 1, 2], modality=" ")


@pytest.mark.parametrize("label", [3, -1])
def test_label_outside_the_set_names_split_and_row(toy, label):
    with pytest.raises(VitaskError, match=rf"toy: split 'val', row 2: label {label} is outside 0\.\.2"):
        toy([0, 1, 2], val=[0, 1, label])


def test_two_labels_in_a_single_label_task(toy):
    with pytest.raises(VitaskError, match=r"split 'train', row 0: expected one label, got \[0, 1\]"):
        toy([[0, 1], [2]])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_class_missing_from_a_split(toy, split):
    with pytest.raises(VitaskError, match=f"split '{split}' has no image of 'green'"):
        toy(**{"train": [0, 1, 2], split: [0, 2]})


def test_multi_label_needs_every_label_in_train_only(toy):
    toy([[0, 1, 2]], val=[[0]], test=[[]], multi_label=True)
    with pytest.raises(VitaskError, match="split 'train' has no image of 'red', 'green'"):
        toy([[2]], val=[[0, 1]], multi_label=True)


def test_empty_split(toy):
    with pytest.raises(VitaskError, match="split 'test' is missing or has no images"):
        toy([0, 1, 2], test=[])


def test_two_label_sets_with_one_text(toy):
    with pytest.raises(VitaskError, match=r"the label sets \['a', 'b'\] and \['a, b'\] give the same answer 'a, b'"):
        toy([[0, 1], [2]], labels=("a", "b", "a, b"), multi_label=True)


def test_fingerprint_is_stable_and_sensitive(toy):
    same = [toy([0, 1, 2]).fingerprint for _ in range(2)]
    different = [
        toy([0, 2, 1]).fingerprint,
        toy([0, 1, 2], val=[0, 2, 1]).fingerprint,
        toy([0, 1, 2], labels=("red", "green", "navy")).fingerprint,
        toy([0, 1, 2], content="other pixels").fingerprint,
        toy([0, 1, 2], modality="spot").fingerprint,
    ]
    assert len({*same, *different}) == 1 + len(different)


def test_fingerprint_changes_with_the_no_finding_text(toy):
    train = [[], [0], [1], [2]]
    assert toy(train, multi_label=True).fingerprint != toy(train, multi_label=True, no_finding="clear").fingerprint


def test_with_train_checks_again_and_keeps_the_other_splits(toy):
    task = toy([0, 1, 2, 2])
    smaller = with_train(task, task.splits["train"].select([0, 1, 2]), {"note": "text"})
    assert len(smaller.splits["train"]) == 3
    assert smaller.splits["val"] is task.splits["val"]
    assert smaller.notes == {"note": "text"}
    assert smaller.fingerprint != task.fingerprint
    with pytest.raises(VitaskError, match="no image of 'blue'"):
        with_train(task, task.splits["train"].select([0, 1]), {})
