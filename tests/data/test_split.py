"""A split is read by column or by row, and no part or change of it copies an image."""

import pickle

import numpy as np
import pytest

from vitask.data import Split, load_table_task, with_imbalance, with_label_noise, with_train_fraction
from vitask.data.split import join, labelled


class Counting(list):
    """Images that say which of them were asked for."""

    def __init__(self, *items):
        super().__init__(*items)
        self.asked = []

    def __getitem__(self, index):
        self.asked.append(index)
        return super().__getitem__(index)


@pytest.fixture
def split():
    return Split(list("abcd"), Counting("ABCD"), [3, 2, 1, 0])


def test_rows_and_columns(split):
    assert len(split) == 4
    assert (split["id"], split["answer"], list(split["image"])) == (list("abcd"), [3, 2, 1, 0], list("ABCD"))
    assert split[1] == {"id": "b", "image": "B", "answer": 2}
    assert [row["id"] for row in split] == list("abcd")
    with pytest.raises(KeyError):
        split["label"]


def test_a_part_of_a_part_keeps_names_images_and_answers_together(split):
    part = split.select(np.array([3, 1, 0])).select([2, 0])
    assert list(part) == [split[0], split[3]]
    again = pickle.loads(pickle.dumps(part))
    assert list(again) == list(part)


def test_nothing_is_read_before_it_is_asked_for(split):
    images = split["image"]
    changed = join([split.select([2, 0]).with_answers([5, 6]), split], ["one", "two"], [0, 10])
    assert changed["id"] == ["one/c", "one/a", "two/a", "two/b", "two/c", "two/d"]
    assert changed["answer"] == [5, 6, 13, 12, 11, 10]
    assert images.asked == []
    assert (changed["image"][0], changed["image"][3]) == ("C", "B")
    assert images.asked == [2, 1]
    with pytest.raises(IndexError):
        changed["image"][6]


def test_rows_are_chosen_from_a_source_in_the_answers_order():
    rows = {"id": list("abc"), "image": list("ABC")}
    assert list(labelled(rows, [7, 8], [2, 0])) == [
        {"id": "c", "image": "C", "answer": 7},
        {"id": "a", "image": "A", "answer": 8},
    ]
    assert labelled(rows, [1, 2, 3])["answer"] == [1, 2, 3]


def test_conditions_behind_a_split_made_here_copy_no_image(eight, tmp_path, monkeypatch):
    """`datasets` writes all images anew to change a column behind a selection; nothing here asks it to."""
    import datasets

    cache = tmp_path / "cache"
    task = load_table_task(eight(split=None), "leaf", fractions=(0.5, 0.25, 0.25), cache_dir=cache)
    assert "made here" in task.notes["split"]
    monkeypatch.setattr(datasets.Dataset, "flatten_indices", None)
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    images = task.splits["train"]["image"]
    noisy = with_label_noise(task, 0.5, seed=0)
    assert noisy.splits["train"]["image"] is images
    harder = with_label_noise(with_imbalance(with_train_fraction(noisy, 0.9, seed=0), 0.5, seed=0), 0.5, seed=1)
    names = dict(zip(task.splits["train"]["id"], images, strict=True))
    for row in harder.splits["train"]:
        assert row["image"].tobytes() == names[row["id"]].tobytes()
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == written
