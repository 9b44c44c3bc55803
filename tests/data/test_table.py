"""Tables of every kind give the same task; columns are found by usual names or by yours."""

import datasets
import numpy as np
import pytest
from PIL import Image

from vitask.data import Columns, load_table_task, with_label_noise, with_train_fraction
from vitask.errors import VitaskError


@pytest.fixture
def load(tmp_path):
    def load(path, modality="leaf", **options):
        return load_table_task(path, modality, cache_dir=tmp_path / "cache", **options)

    return load


def summary(task):
    return [
        task.labels,
        {split: (rows["id"][:], rows["answer"][:]) for split, rows in task.splits.items()},
        [np.asarray(row["image"]).tolist() for row in task.splits["test"]],
    ]


def test_csv_json_lines_and_parquet_give_the_same(eight, load):
    tasks = [load(eight(f"labels.{suffix}"), name="leaves") for suffix in ("csv", "jsonl", "parquet")]
    assert summary(tasks[0]) == summary(tasks[1]) == summary(tasks[2])
    assert tasks[0].fingerprint == tasks[1].fingerprint == tasks[2].fingerprint
    assert (tasks[0].name, tasks[0].labels, tasks[0].notes) == ("leaves", ("mould", "rust"), {})
    assert tasks[0].splits["train"]["id"][:] == [f"img/{i}.png" for i in range(4)]


def test_parquet_with_the_images_in_it(eight, load):
    paths = load(eight())
    rows = [(path, i) for i, path in enumerate(sorted((eight().parent / "img").iterdir()))]
    data = [path.read_bytes() for path, _ in rows]
    inside = load(eight("inside.parquet", image=data))
    assert [summary(paths)[i] for i in (0, 2)] == [summary(inside)[i] for i in (0, 2)]
    assert inside.splits["val"]["id"][:] == ["inside-000004", "inside-000005"]
    nested = [{"bytes": each, "path": None} for each in data[:4]]
    nested += [{"bytes": None, "path": f"img/{i}.png"} for i in range(4, 8)]
    assert summary(load(eight("nested.parquet", image=nested)))[2] == summary(paths)[2]


def test_parquet_by_datasets_knows_the_names_of_its_classes(eight, load):
    folder = eight().parent
    rows = {"image": [str(folder / f"img/{i}.png") for i in range(8)], "label": [i % 2 for i in range(8)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["z", "y"])})
    made = datasets.Dataset.from_dict({**rows}, features=features)
    made.to_parquet(str(folder / "typed.parquet"))
    task = load(folder / "typed.parquet", fractions=(0.5, 0.25, 0.25))
    assert task.labels == ("y", "z")
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 4, "val": 2, "test": 2}


def test_columns_of_other_names_and_a_root_elsewhere(eight, load, tmp_path):
    path = eight(image=None, label=None, file=[f"{i}.png" for i in range(8)], dx=list("abababab"), key=list("hgfedcba"))
    task = load(path, columns=Columns(image="file", label="dx", id="key"), root=path.parent / "img")
    assert task.labels == ("a", "b")
    assert task.splits["test"]["id"][:] == ["b", "a"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_quotes_byte_order_mark_and_trailing_commas(eight, load, delimiter):
    path = eight()
    text = path.read_text().replace(",", delimiter).replace("rust", f'"rust{delimiter} old"')
    path.write_text("\ufeff" + text.replace("\r\n", f"{delimiter}{delimiter}\r\n") + "\r\n", encoding="utf-8")
    assert load(path).labels == ("mould", f"rust{delimiter} old")


def test_several_labels_by_separator_or_as_lists(eight, load):
    sets = [[], ["a"], ["b"], ["a", "b"], ["b", "a"], [], ["a"], ["a", "a"]]
    lists = load(eight("lists.jsonl", label=sets))
    texts = load(eight(label=[" | ".join(each) or "No Finding" for each in sets]), columns=Columns(label_separator="|"))
    for task in (lists, texts):
        assert task.multi_label
        assert [answer.text for answer in task.answers] == ["no finding", "a", "a, b", "b"]
        assert [rows["answer"][:] for rows in task.splits.values()] == [[0, 1, 3, 2], [2, 0], [1, 1]]


def test_a_separator_inside_a_label_is_refused(eight, load):
    path = eight("lists.jsonl", label=[["normal, benign"], ["b"]] * 4)
    with pytest.raises(Exception, match=r"label 'normal, benign' holds the separator ', '.* data\.separator='; '"):
        load(path)
    assert load(path, separator="; ").labels == ("b", "normal, benign")


def test_numbers_are_labels_in_the_order_of_their_values(eight, load):
    task = load(eight("n.jsonl", label=[10.0, 9, 10, 9, 10, 9, 10, 9]))
    assert task.labels == ("9", "10")
    assert task.splits["train"]["answer"][:] == [1, 0, 1, 0]


def test_a_label_file_gives_order_texts_synonyms_and_grades(eight, load, tmp_path):
    file = tmp_path / "labels.yaml"
    file.write_text(
        "modality: birch leaf\nordinal: true\nlabels:\n"
        "  rust: {text: red rust, synonyms: [Puccinia], definition: red}\n  mould: grey mould\n"
    )
    task = load(eight(), label_file=file)
    assert (task.labels, task.modality, task.ordinal) == (("red rust", "grey mould"), "birch leaf", True)
    assert [answer.synonyms for answer in task.answers] == [("Puccinia",), ()]
    assert task.definitions == {"red rust": "red"}
    assert not load(eight(), label_file=file, ordinal=False).ordinal
    file.write_text("labels: {rust: red, mould: {text: grey, synonyms: [RED]}}")
    with pytest.raises(Exception, match="'RED' is a synonym of 'grey' and means 'red' too"):
        load(eight(), label_file=file)


def test_groups_stay_together_where_there_is_no_split(eight, load):
    path = eight(split=None, group=["p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4"])
    task = load(path, fractions=(0.5, 0.25, 0.25))
    held = [{name[4] for name in rows["id"][:]} for rows in task.splits.values()]
    pairs = [{int(i) // 2 for i in part} for part in held]
    assert sorted(map(len, pairs)) == [1, 1, 2]
    assert set.union(*pairs) == {0, 1, 2, 3}
    assert task.notes["split"] == "made here, 50/25/25 % for train/val/test, groups kept together, seed 0"
    assert (
        load(path, fractions=(0.5, 0.25, 0.25), columns=Columns(group="")).notes["split"].endswith("stratified, seed 0")
    )


def test_val_is_taken_out_of_train_where_it_is_missing(eight, load):
    task = load(eight(split=["train"] * 6 + ["test"] * 2))
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert task.notes == {"split": "val is 2 of 6 training images, taken out here, stratified, seed 0"}


def test_splits_of_other_names(eight, load):
    path = eight(split=["0", "0", "1", "1", "2", "2", "3", "3"])
    task = load(path, split_names={"train": ["0", 1], "val": "2", "test": "3"})
    assert [rows["id"][0] for rows in task.splits.values()] == ["img/0.png", "img/4.png", "img/6.png"]


def test_everything_in_test_to_evaluate_on(eight, load):
    task = load(eight(split=None), fractions=[0, 0, 1])
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 0, "val": 0, "test": 8}
    assert task.notes == {"split": "all images are in test"}
    assert task.candidates == 2


def test_a_class_may_lack_when_asked_for_and_is_noted(eight, load):
    path = eight(label=["a", "b", "c", "a", "a", "b", "a", "b"])
    with pytest.raises(Exception, match="split 'val' has no image of 'c'"):
        load(path)
    assert load(path, allow_missing=True).notes == {"missing classes": "no image of 'c' in val, test"}


def test_a_parquet_image_column_is_read_in_parts_from_any_row(tmp_path, monkeypatch):
    from vitask.data.sources import table_files

    monkeypatch.setattr(table_files, "BATCH_ROWS", 3)
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict({"image": [bytes([i]) for i in range(10)], "label": ["a"] * 10}).to_parquet(str(path))
    images = table_files.ParquetImages(table_files.read_table(path), "image", tmp_path)
    for start in (0, 2, 3, 7, 10):
        assert list(images.items(start)) == [bytes([i]) for i in range(start, 10)]


def test_files_that_a_parquet_column_names_count_as_its_own(tmp_path, load):
    """Two folders with files of the same names, and one that is replaced: other images, without a word of the table."""
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        for name in range(8):
            Image.new("L", (6, 6), 20 * name + number).save(tmp_path / folder / f"{name}.png")
    whole = (tmp_path / "one/0.png").read_bytes()
    cells = [{"bytes": whole, "path": "0.png"}, *({"bytes": None, "path": f"{name}.png"} for name in range(1, 8))]
    splits = ["train", "train", "train", "train", "val", "val", "test", "test"]
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict({"image": cells, "label": ["a", "b"] * 4, "split": splits}).to_parquet(str(path))

    def pixels(folder):
        task = load(path, root=tmp_path / folder)
        return task.fingerprint, [np.asarray(image)[0, 0] for image in task.splits["train"]["image"]]

    one, two = pixels("one"), pixels("two")
    assert (one[1], two[1]) == ([0, 20, 40, 60], [0, 21, 41, 61])
    Image.new("L", (6, 6), 255).save(tmp_path / "two/3.png")
    changed = pixels("two")
    assert changed[1] == [0, 21, 41, 255]
    assert len({one[0], two[0], changed[0]}) == 3
    (tmp_path / "two/3.png").unlink()
    with pytest.raises(VitaskError, match=r"a.parquet, row 4: .*two/3.png: no such image"):
        pixels("two")


def test_shrunk_images_have_another_cache_and_the_same_fingerprint(eight, load):
    path = eight()
    small, whole = load(path, size=3), load(path)
    assert small.splits["train"][0]["image"].size == (4, 3)
    assert whole.splits["train"][0]["image"].size == (9, 6)
    assert isinstance(small.splits["train"][0]["image"], Image.Image)


def test_conditions_change_train_alone_and_leave_the_cache_as_it_is(eight, load, tmp_path):
    path = eight(split=None)
    task = load(path, fractions=(0.5, 0.25, 0.25))
    harder = with_label_noise(with_train_fraction(task, 0.9, 0), 0.5, 0)
    answers = dict(zip(task.splits["train"]["id"][:], task.splits["train"]["answer"][:], strict=True))
    changed = [answers[row["id"]] != row["answer"] for row in harder.splits["train"]]
    assert sum(changed) == 2
    for row in harder.splits["train"]:
        assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(path.parent / row["id"])))
    again = load(path, fractions=(0.5, 0.25, 0.25))
    assert again.fingerprint == task.fingerprint
    assert sum(map(len, again.splits.values())) == 8
