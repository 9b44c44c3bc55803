"""A table of images, instructions and responses: what is kept, what is split where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitask.data import Columns, instruction_ids, load_instruction_task, pictures_of
from vitask.data.conditions import with_imbalance, with_label_noise, with_train_fraction
from vitask.data.mixture import mix
from vitask.errors import UsageError, VitaskError

ASKED = ("What color is it?", "Describe the image.")


@pytest.fixture
def write(tmp_path):
    """Write ten images and a table of two questions about each; rows can be changed first."""

    def write(change=lambda rows: rows, pictures: int = 10, **more) -> Path:
        rng = np.random.default_rng(0)
        rows = []
        for number in range(pictures):
            name = f"{number}.png"
            Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(tmp_path / name)
            for place, asked in enumerate(ASKED):
                row = {"image": name, "instruction": asked, "response": f"{place} {number % 4}"}
                rows.append({**row, **{key: values[number] for key, values in more.items()}})
        table = tmp_path / "questions.jsonl"
        table.write_text("".join(f"{json.dumps(row)}\n" for row in change(rows)))
        return table

    return write


def load(table: Path, **options):
    return load_instruction_task(table, cache_dir=table.parent / "cache", **options)


def test_each_row_keeps_its_instruction_and_response(write):
    task = load(write())
    assert task.open_ended
    assert task.labels == ()
    rows = [row for rows in task.splits.values() for row in rows]
    found = {(row["id"], row["instruction"], task.answers[row["answer"]].text) for row in rows}
    assert found == {(f"{n}.png#{k + 1}", ASKED[k], f"{k} {n % 4}") for n in range(10) for k in range(2)}


def test_an_image_is_stored_once_and_its_rows_stay_together(write):
    table = write()
    task = load(table)
    (shard,) = (table.parent / "cache").rglob("*.arrow")
    from datasets import Dataset

    assert len(Dataset.from_file(str(shard))) == 10
    where = {}
    for split, rows in task.splits.items():
        for picture, image in zip(rows["picture"], rows["image"], strict=True):
            assert where.setdefault(picture, split) == split
            own = np.asarray(Image.open(table.parent / picture))
            assert np.array_equal(np.asarray(image), own)
    assert len(where) == 10
    assert set(where.values()) == {"train", "val", "test"}
    assert not any("duplicate" in title for title in task.notes)


def test_the_same_pixels_under_another_name_are_the_same_image(write, tmp_path):
    table = write()
    (tmp_path / "3.png").write_bytes((tmp_path / "7.png").read_bytes())
    task = load(table)
    homes = {split for split, rows in task.splits.items() for name in rows["id"] if name[0] in "37"}
    assert len(homes) == 1
    names = {name for rows in task.splits.values() for name in rows["picture"]}
    assert names == {f"{n}.png" for n in range(10) if n != 7}


def test_the_source_s_splits_hold_and_shared_images_are_counted(write):
    splits = ["train"] * 6 + ["dev"] * 2 + ["test"] * 2

    def share(rows):
        return [*rows, {**rows[0], "instruction": "Else?", "split": "test"}]

    task = load(write(share, split=splits))
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 12, "val": 4, "test": 5}
    assert task.notes == {"duplicate images": "1 of 3 test images are in train too"}


def test_a_val_split_is_taken_out_of_splits_that_share_an_image(write):
    """Test keeps its rows; the image's own rows in train stay together."""

    def share(rows):
        return [*rows, {**rows[0], "instruction": "Else?", "split": "test"}]

    task = load(write(share, split=["train"] * 8 + ["test"] * 2))
    train, val, test = (set(task.splits[split]["picture"]) for split in ("train", "val", "test"))
    assert (len(val), len(test), len(train & val)) == (2, 3, 0)
    assert "test images are in" in task.notes["duplicate images"]


def test_a_val_split_is_taken_out_of_train_by_images(write):
    task = load(write(split=["train"] * 8 + ["test"] * 2))
    train, val = (set(task.splits[split]["picture"]) for split in ("train", "val"))
    assert len(val) == 2
    assert not train & val


def test_groups_stay_together_and_hold_whole_images(write):
    task = load(write(group=["p", "p", "p", "q", "q", "r", "r", "s", "t", "u"]))
    of = dict(zip((f"{n}.png" for n in range(10)), "pppqqrrstu", strict=True))
    groups = [{of[picture] for picture in rows["picture"]} for rows in task.splits.values()]
    assert sum(map(len, groups)) == 6

    def mixed(rows):
        return [{**row, "group": "x" if place == 1 else "y"} for place, row in enumerate(rows)]

    with pytest.raises(VitaskError, match=r"line 2: group 'x', but .*line 1 shows the same image in group 'y'"):
        load(write(mixed))


def test_without_a_column_one_instruction_is_asked_of_every_image(write):
    captions = write(lambda rows: [{"image": row["image"], "caption": row["response"]} for row in rows[1::2]])
    task = load(captions, columns=Columns(instruction=""), instruction="Say it.")
    assert {text for rows in task.splits.values() for text in rows["instruction"]} == {"Say it."}
    assert "4.png" in {name for rows in task.splits.values() for name in rows["id"]}
    with pytest.raises(UsageError, match=r"no column 'instruction'.*data.columns.instruction"):
        load(captions, instruction="Say it.")


def test_every_text_is_part_of_the_fingerprint(write):
    before = load(write()).fingerprint
    for key in ("instruction", "response"):
        changed = write(lambda rows, key=key: [{**rows[0], key: "Else"}, *rows[1:]])
        assert load(changed).fingerprint != before
    assert load(write()).fingerprint == before


def test_encoded_images_of_a_parquet_table_are_told_apart_by_their_pixels(write, tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [json.loads(line) for line in write().read_text().splitlines()]
    columns = {key: [row[key] for row in rows] for key in ("instruction", "response")}
    columns["image"] = [(tmp_path / row["image"]).read_bytes() for row in rows]
    parquet.write_table(pyarrow.table(columns), tmp_path / "questions.parquet")
    task = load(tmp_path / "questions.parquet")
    homes = [set(rows["picture"]) for rows in task.splits.values()]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 10


def test_a_damaged_image_is_named_or_left_out_with_all_its_rows(write, tmp_path):
    table = write()
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(VitaskError, match=r"line 5: .*2.png: cannot read this image"):
        load(table)
    task = load(table, skip_corrupt=True)
    assert sum(map(len, task.splits.values())) == 18
    assert task.notes["corrupt images"] == "1 image that does not decode left out"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [rows[0], {**rows[1], "response": " "}, *rows[2:]], "line 2: has no text in column 'response'"),
        (lambda rows: [rows[0], {**rows[1], "instruction": None}, *rows[2:]], "line 2: has no text in column 'instr"),
        (
            lambda rows: [{**rows[0], "response": ["a", "b"]}, *rows[1:]],
            r"line 1: expected a text in column 'response'",
        ),
        (lambda rows: [*rows[:3], {**rows[3], "image": "gone.png"}, *rows[4:]], "line 4: .*gone.png: no such image"),
        (lambda rows: [*rows[:3], {**rows[3], "image": ""}, *rows[4:]], "line 4: has no image in column 'image'"),
        (lambda rows: [{**row, "id": "x"} for row in rows], "line 2: the id 'x' occurs before, in .*line 1"),
        (lambda rows: [{**row, "split": "trian"} for row in rows], "line 1: unknown split 'trian'"),
    ],
)
def test_a_bad_row_is_named(change, said, write):
    with pytest.raises(VitaskError, match=said):
        load(write(change))


def test_numbers_are_responses_as_they_are_written(write):
    task = load(write(lambda rows: [{**row, "response": 3 if row["image"] < "5" else 2.5} for row in rows]))
    assert {answer.text for answer in task.answers} == {"3", "2.5"}


def test_conditions_on_labels_are_refused_and_a_fraction_is_taken(write):
    task = load(write())
    with pytest.raises(UsageError, match="no labels to replace"):
        with_label_noise(task, 0.5, 0)
    with pytest.raises(UsageError, match="open-ended"):
        with_imbalance(task, 0.5, 0)
    with pytest.raises(UsageError, match="a mixture takes data sets with labels"):
        mix("two", [task, task.__class__(**{**task.__dict__, "name": "other"})])
    part = with_train_fraction(task, 0.5, 0)
    assert len(part.splits["train"]) == len(task.splits["train"]) // 2
    rows = part.splits["train"]
    whole = dict(zip(task.splits["train"]["id"], task.splits["train"]["instruction"], strict=True))
    assert all(whole[name] == asked for name, asked in zip(rows["id"], rows["instruction"], strict=True))


def test_rows_of_an_image_find_it_among_the_distinct_ones(write):
    task = load(write())
    rows = task.splits["train"]
    first, places = pictures_of(rows)
    assert [rows["picture"][first[place]] for place in places] == rows["picture"]
    assert len(first) == len(set(rows["picture"]))
    ids = instruction_ids(task, "train")
    asked = np.array(rows["instruction"])
    assert ((ids[:, None] == ids) == (asked[:, None] == asked)).all()
