import datasets
import numpy as np
import pytest
from PIL import Image

from vitask.data import Columns, load_hub_task
from vitask.errors import UsageError, VitaskError


@pytest.fixture
def made():
    """Two splits of small images with class labels."""

    def make(**extra) -> datasets.DatasetDict:
        features = {"picture": datasets.Image(), "fine": datasets.ClassLabel(names=["zebra", "ant", "cat"])}
        rng = np.random.default_rng(0)

        def part(count):
            pixels = rng.integers(256, size=(count, 6, 5, 3), dtype=np.uint8)
            rows = {"picture": [Image.fromarray(each) for each in pixels], "fine": [i % 3 for i in range(count)]}
            rows |= {name: values[:count] for name, (values, _) in extra.items()}
            kinds = {**features, **{name: kind for name, (_, kind) in extra.items()}}
            return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))

        return datasets.DatasetDict({"train": part(12), "validation": part(6), "test": part(3)})

    return make


@pytest.fixture
def load(tmp_path):
    def load(path, **options):
        return load_hub_task(str(path), "animal", cache_dir=tmp_path / "cache", **options)

    return load


def test_from_disk_with_its_own_splits_and_class_names_in_order(made, load, tmp_path):
    source = made()
    source.save_to_disk(str(tmp_path / "animals"))
    task = load(tmp_path / "animals")
    assert (task.name, task.labels) == ("animals", ("zebra", "ant", "cat"))
    assert [len(rows) for rows in task.splits.values()] == [12, 6, 3]
    for split, theirs in (("train", "train"), ("val", "validation"), ("test", "test")):
        assert task.splits[split]["answer"][:] == source[theirs]["fine"][:]
        for row, original in zip(task.splits[split], source[theirs], strict=True):
            assert np.array_equal(np.asarray(row["image"]), np.asarray(original["picture"]))
    assert task.splits["val"]["id"][0] == "validation-000000"
    assert load(tmp_path / "animals").fingerprint == task.fingerprint


def test_a_changed_folder_is_noticed(made, load, tmp_path):
    source = made()
    source.save_to_disk(str(tmp_path / "animals"))
    before = load(tmp_path / "animals").fingerprint
    source["train"] = source["train"].select(range(9))
    source.save_to_disk(str(tmp_path / "other"))
    assert load(tmp_path / "other").fingerprint != before


def test_one_split_is_split_here(made, load, tmp_path):
    made()["train"].save_to_disk(str(tmp_path / "one"))
    task = load(tmp_path / "one", fractions=(0.5, 0.25, 0.25))
    assert [len(rows) for rows in task.splits.values()] == [6, 3, 3]


def test_own_choice_of_splits_leaves_the_others_out(made, load, tmp_path):
    source = made()
    source["unlabelled"] = source.pop("test")
    source.save_to_disk(str(tmp_path / "animals"))
    task = load(tmp_path / "animals", split_names={"test": "validation"}, fractions=(0.75, 0.25, 0.1))
    assert [len(rows) for rows in task.splits.values()] == [9, 3, 6]
    with pytest.raises(VitaskError, match="unknown split 'unlabelled'"):
        load(tmp_path / "animals")
    with pytest.raises(VitaskError, match=r"split 'test' \('tset'\) has no rows"):
        load(tmp_path / "animals", split_names={"test": "tset"})


def test_a_list_of_class_labels_is_multi_label(made, load, tmp_path):
    kind = datasets.List(datasets.ClassLabel(names=["fur", "wings"]))
    source = made(parts=([[], [0], [1], [0, 1]] * 3, kind))
    source.save_to_disk(str(tmp_path / "animals"))
    task = load(tmp_path / "animals", columns=Columns(label="parts"))
    assert task.multi_label
    assert [answer.text for answer in task.answers] == ["no finding", "fur", "fur, wings", "wings"]


def test_a_folder_of_data_files(made, load, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    for split, rows in made().items():
        rows.to_parquet(str(tmp_path / f"files/{split}.parquet"))
    assert load(tmp_path / "files").labels == ("zebra", "ant", "cat")


def test_labels_of_no_class_are_refused(made, load, tmp_path):
    source = made()
    source["test"] = source["test"].map(lambda row: {"fine": -1})
    source.save_to_disk(str(tmp_path / "animals"))
    with pytest.raises(VitaskError, match=r"split 'test', row 0: label -1 is outside 0\.\.2"):
        load(tmp_path / "animals")


def test_out_of_reach_is_one_line(load):
    with pytest.raises(VitaskError, match=r"no-such/set: cannot load this data set") as error:
        load("no-such/set")
    assert "\n" not in str(error.value)


def test_columns_that_are_not_there_or_hold_no_images(made, load, tmp_path):
    made().save_to_disk(str(tmp_path / "animals"))
    with pytest.raises(UsageError, match=r"no column 'fin' .* Did you mean 'fine'"):
        load(tmp_path / "animals", columns=Columns(label="fin"))
    with pytest.raises(UsageError, match="the column 'fine' holds no images"):
        load(tmp_path / "animals", columns=Columns(image="fine", label="fine"))
