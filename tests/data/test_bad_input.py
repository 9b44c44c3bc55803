"""What is wrong with a user's data ends in one line that names file and row, and in the right exit code."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

TABLE, FOLDER, MEDMNIST, HUB = "table", "image_folder", "medmnist", "hub"


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def labels(**columns):
    """A table of eight images with these columns."""
    return lambda eight, folder, npz: eight(**columns)


def after(change, **columns):
    """The same, changed once it is written."""

    def write(eight, folder, npz):
        path = eight(**columns)
        change(path)
        return path

    return write


def archive(change):
    """A PneumoniaMNIST archive that is wrong in one array, or as a file."""
    return lambda eight, folder, npz: npz(change)


CASES = {
    "no such table": (TABLE, labels(), ["data.path=nowhere.csv"], 1, ["nowhere.csv: no such file"]),
    "no path": (TABLE, labels(), ["data.path=null"], 2, ["data.path has no value"]),
    "unknown kind of table": (TABLE, labels(), ["data.path={root}/img/0.png"], 2, ["0.png: unknown kind of table"]),
    "empty table": (TABLE, after(lambda path: path.write_text("")), [], 1, ["labels.csv: is empty"]),
    "no rows": (TABLE, after(lambda path: path.write_text("image,label\n")), [], 1, ["labels.csv: has no rows"]),
    "not UTF-8": (
        TABLE,
        after(lambda path: path.write_bytes(b"image,label\n\xff,a\n")),
        [],
        1,
        ["not a UTF-8 text table"],
    ),
    "short row": (
        TABLE,
        after(lambda path: path.write_text("image,label\nimg/0.png,a\nimg/1.png\n")),
        [],
        1,
        ["labels.csv, line 3: has 1 cells, but the header has 2 columns"],
    ),
    "column twice": (TABLE, after(lambda path: path.write_text("image,image\n")), [], 1, ["'image' occurs twice"]),
    "not JSON": (
        TABLE,
        lambda eight, folder, npz: _cut_line(eight("labels.jsonl")),
        [],
        1,
        ["labels.jsonl, line 3: not JSON"],
    ),
    "not an object": (
        TABLE,
        lambda eight, folder, npz: _replace(eight("labels.jsonl"), "[1, 2]\n"),
        [],
        1,
        ["labels.jsonl, line 1: expected an object"],
    ),
    "truncated Parquet": (
        TABLE,
        lambda eight, folder, npz: _half(eight("labels.parquet")),
        [],
        1,
        ["labels.parquet: not a complete Parquet file"],
    ),
    "Parquet whose names are no text": (
        TABLE,
        lambda eight, folder, npz: _without_text(eight("labels.parquet")),
        [],
        1,
        ["labels.parquet: not a complete Parquet file"],
    ),
    "missing column": (
        TABLE,
        labels(label=None, lable=list("abababab")),
        [],
        2,
        ["labels.csv: has no column 'label'. Did you mean 'lable'?", "there are image, split, lable"],
    ),
    "column of another name": (
        TABLE,
        labels(patient=list("abcdefgh")),
        ["data.columns.group=patent"],
        2,
        ["has no column 'patent' (data.columns.group). Did you mean 'patient'?"],
    ),
    "no label": (TABLE, labels(label=["a", "b", "", *"ababa"]), [], 1, ["labels.csv, line 4: has no label"]),
    "one label": (TABLE, labels(label=["a"] * 8), [], 1, ["at least 2 labels, got ['a']"]),
    "no image named": (
        TABLE,
        labels(image=["img/0.png", "", *(f"img/{i}.png" for i in range(2, 8))]),
        [],
        1,
        ["labels.csv, line 3: has no image in column 'image'"],
    ),
    "missing images": (
        TABLE,
        after(lambda path: [(path.parent / f"img/{i}.png").unlink() for i in (2, 5)]),
        [],
        1,
        ["labels.csv, line 4: ", "img/2.png: no such image, and 1 more"],
    ),
    "truncated image": (
        TABLE,
        after(lambda path: half(path.parent / "img/3.png")),
        [],
        1,
        ["labels.csv, line 5: ", "img/3.png: cannot read this image"],
    ),
    "empty image in Parquet": (
        TABLE,
        lambda eight, folder, npz: eight("in.parquet", image=[b"x"] * 8),
        [],
        1,
        ["in.parquet, row 1: cannot read this image"],
    ),
    "duplicate ids": (
        TABLE,
        labels(id=["a", "b", "c", "d", "b", "e", "f", "g"]),
        [],
        1,
        ["labels.csv, line 6: the id 'b' occurs before, in ", "labels.csv, line 3"],
    ),
    "unknown split": (
        TABLE,
        labels(split=["train", "train", "trian", "train", "val", "val", "test", "test"]),
        [],
        1,
        ["labels.csv, line 4: unknown split 'trian'. Did you mean 'train'?"],
    ),
    "split that is not there": (
        TABLE,
        labels(),
        ["data.splits={train: train, test: tset}"],
        1,
        ["split 'test' ('tset') has no rows. Did you mean 'test'? The data's splits are test, train, val"],
    ),
    "no such split": (
        TABLE,
        labels(),
        ["data.splits={trian: train}"],
        2,
        ["data.splits.trian", "Did you mean 'train'?"],
    ),
    "group in two splits": (
        TABLE,
        labels(group=list("abcdefgb")),
        [],
        1,
        ["group 'b' is in test and train (1 of 7 groups are in several splits)"],
    ),
    "groups that make a split empty": (
        TABLE,
        labels(split=None, group=list("aaaabbbb")),
        [],
        1,
        ["labels.csv: 2 groups cannot fill three splits"],
    ),
    "groups that lack a class": (
        TABLE,
        labels(split=None, group=list("abcababa"), label=["x", "y", "z", *"xyxyx"]),
        [],
        1,
        ["has no image of "],
    ),
    "too few of a class": (TABLE, labels(split=None, label="aaaaaabb"), [], 1, ["class 'b' has 2 images: too few"]),
    "empty label sets": (
        TABLE,
        lambda eight, folder, npz: eight("labels.jsonl", label=[[]] * 8),
        [],
        1,
        ["labels.jsonl: classification needs at least 2 labels, got []"],
    ),
    "fractions": (TABLE, labels(split=None), ["data.fractions=[0.5, 0.5, 0.5]"], 2, ["must be positive and sum to 1"]),
    "label file": (
        TABLE,
        labels(),
        ["data.label_file=nowhere.yaml"],
        2,
        ["data.label_file=nowhere.yaml: no such file"],
    ),
    "corrupt policy": (
        TABLE,
        labels(),
        ["data.corrupt=ignore"],
        2,
        ["data.corrupt: 'ignore' is not one of fail, skip"],
    ),
    "hub out of reach": (HUB, labels(), ["data.path=no-such/set"], 1, ["no-such/set: cannot load this data set"]),
    "image in a folder": (
        FOLDER,
        lambda eight, folder, npz: _half(folder / "val/b/0.png"),
        ["data.root={folder}"],
        1,
        ["val/b/0.png: cannot read this image"],
    ),
    "truncated archive": (
        MEDMNIST,
        archive(half),
        [],
        1,
        ["pneumoniamnist.npz: not a complete .npz file"],
    ),
    "wrong dtype": (
        MEDMNIST,
        archive({"val_images": np.zeros((16, 28, 28), np.float32)}),
        [],
        1,
        ["pneumoniamnist.npz: 'val_images' is float32"],
    ),
    "wrong shape": (
        MEDMNIST,
        archive({"val_images": np.zeros((16, 32, 32), np.uint8)}),
        [],
        1,
        ["'val_images' is uint8 of (16, 32, 32), not uint8 of (N, 28, 28)"],
    ),
    "label out of range": (
        MEDMNIST,
        archive({"test_labels": np.array([[0], [1]] * 8 + [[2]] * 4, np.uint8)}),
        [],
        1,
        ["pneumoniamnist.npz: split 'test', row 16: label 2 is outside 0..1"],
    ),
}


def _half(path):
    half(path)
    return path


def _without_text(path):
    path.write_bytes(path.read_bytes().replace(b"label", b"l\x80bel"))
    return path


def _cut_line(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2][:10] + "\n", *lines[3:]]))
    return path


def _replace(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val", "test"):
        for name in "ab":
            (tmp_path / "folder" / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4), "red" if name == "a" else "blue").save(tmp_path / f"folder/{split}/{name}/0.png")
    return tmp_path / "folder"


@pytest.fixture
def npz(npz_arrays, save_npz):
    def write(change):
        path = save_npz(npz_arrays() | (change if isinstance(change, dict) else {}))
        if callable(change):
            change(path)
        return path

    return write


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, cli, eight, folder, npz, tmp_path):
    source, write, overrides, code, texts = CASES[case]
    path = write(eight, folder, npz)
    places = {"root": path.parent, "folder": folder}
    common = [f"data={source}", f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'runs'}"]
    common += ["data.name=pneumoniamnist", f"data.root={path.parent}"] if source == MEDMNIST else []
    common += [f"data.path={path}"] if source == TABLE else []
    for name, place in places.items():
        overrides = [override.replace(f"{{{name}}}", str(place)) for override in overrides]
    ended = cli("data", "inspect", *common, *overrides)
    assert ended.refuses(code, *texts)
    assert not (tmp_path / "runs").exists()


def test_good_input_passes(cli, eight, tmp_path):
    assert (
        cli("data", "inspect", "data=table", f"data.path={eight()}", f"cache={tmp_path}", f"out={tmp_path}").code == 0
    )
