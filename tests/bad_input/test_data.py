"""Data sets, images and tables of exemplars that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest

from .case import bad, check, write
from .material import FOLDER, TABLE, VECTORS, arrays, empty, parquet, photos, png, table

DATA = {
    "table is a folder": bad(TABLE, 1, "t.csv", spoil=empty("t.csv")),
    "UTF-16": bad(TABLE, 1, "not a UTF-8 text table", spoil=write("t.csv", table(("a.png", "a")).encode("utf-16"))),
    "NUL bytes": bad(TABLE, 1, "t.csv", spoil=write("t.csv", b"image,label\na\0.png,a\n")),
    "long row": bad(TABLE, 1, "line 2", spoil=write("t.csv", "image,label\na.png,a,b,c\n")),
    "header alone, quoted": bad(TABLE, 1, "t.csv", spoil=write("t.csv", '"image')),
    "a huge cell": bad(TABLE, 1, "t.csv", spoil=write("t.csv", f"image,label\na.png,{'x' * 200_000}\n")),
    "an image outside": bad(
        TABLE, 1, "/etc/no.png", spoil=write("t.csv", table(*[("/etc/no.png", label) for label in "ab" * 5]))
    ),
    "an image that is a folder": bad(
        TABLE,
        1,
        "line 2",
        spoil=lambda folder: (
            write("t.csv", table(*[("d", label) for label in "ab" * 5]))(folder),
            (folder / "d").mkdir(),
        ),
    ),
    "Parquet that is text": bad(
        TABLE.replace("t.csv", "t.parquet"), 1, "t.parquet", spoil=write("t.parquet", "image,label\n")
    ),
    "Parquet without rows": bad(
        TABLE.replace("t.csv", "t.parquet"), 1, "t.parquet", spoil=parquet("t.parquet", image=[], label=[])
    ),
    "Parquet with numbers for images": bad(
        TABLE.replace("t.csv", "t.parquet"), 1, "t.parquet", spoil=parquet("t.parquet", image=[1, 2], label=["a", "b"])
    ),
    "Excel that is text": bad(TABLE.replace("t.csv", "t.xlsx"), 1, "t.xlsx", spoil=write("t.xlsx", "image,label")),
    "JSONL in Latin-1": bad(
        TABLE.replace("t.csv", "t.jsonl"), 1, "t.jsonl", spoil=write("t.jsonl", b'{"a": "\xe4"}\n')
    ),
    "JSONL of nulls": bad(TABLE.replace("t.csv", "t.jsonl"), 1, "t.jsonl", spoil=write("t.jsonl", "null\n")),
    "JSONL with objects for images": bad(
        TABLE.replace("t.csv", "t.jsonl"), 1, "t.jsonl", spoil=write("t.jsonl", '{"image": {"a": 1}, "label": "a"}\n')
    ),
    "no such folder": bad(FOLDER, 1, "photos"),
    "folder that is a file": bad(FOLDER, 1, "photos", spoil=write("photos", "x")),
    "folder without images": bad(FOLDER, 1, "photos", spoil=write("photos/a/notes.txt", "x")),
    "folder of one class": bad(FOLDER, 1, "photos", spoil=write("photos/a/0.png", png(4, 4))),
    "image of no size": bad(FOLDER, 1, "0.png", spoil=photos(png(0, 4))),
    "image without pixels": bad(FOLDER, 1, "0.png", spoil=photos(png(4, 4))),
    "image of a gigantic size": bad(FOLDER, 1, "0.png", spoil=photos(png(1 << 30, 1 << 30))),
    "image of no bytes": bad(FOLDER, 1, "0.png", spoil=photos(b"")),
    "archive of objects": bad(
        "data | inspect | data=medmnist | data.name=pneumoniamnist | data.root={tmp} | cache={cache}",
        1,
        "pneumoniamnist.npz",
        spoil=lambda folder: np.savez(folder / "pneumoniamnist.npz", train_images=np.array([{}], dtype=object)),
    ),
    "archive that lacks arrays": bad(
        "data | inspect | data=medmnist | data.name=pneumoniamnist | data.root={tmp} | cache={cache}",
        1,
        "pneumoniamnist.npz",
        spoil=arrays("pneumoniamnist.npz", other=np.zeros(2)),
    ),
    "no set of that name": bad(
        "data | inspect | data=medmnist | data.name=dermnist | data.root={tmp}", 2, "dermamnist"
    ),
    "ham10000 without its table": bad("data | inspect | data=ham10000 | data.root={tmp}", 1, "HAM10000"),
    "aptos without its table": bad("data | inspect | data=aptos2019 | data.root={tmp}", 1, "{tmp}"[:0]),
    "hub folder that is empty": bad(
        "data | inspect | data=hub | data.path={tmp}/h | cache={cache}",
        1,
        "/h",
        spoil=empty("h"),
    ),
}

TABLES = {
    "no such table": bad(VECTORS + "v.parquet", 1, "v.parquet"),
    "a table of another kind": bad(VECTORS + "v.txt", 2, "v.txt", spoil=write("v.txt", "x")),
    "an empty CSV": bad(VECTORS + "v.csv", 1, "v.csv", spoil=write("v.csv", "")),
    "no ids": bad(VECTORS + "v.csv", 2, "v.csv", "id", spoil=write("v.csv", "a,vector\n1,2\n")),
    "vectors of words": bad(VECTORS + "v.csv", 1, "v.csv", spoil=write("v.csv", "id,vector\na,b c\n")),
    "ragged vectors": bad(
        VECTORS + "v.parquet", 1, "v.parquet", spoil=parquet("v.parquet", id=["a", "b"], vector=[[1.0, 2.0], [1.0]])
    ),
    "vectors that are not a number": bad(
        VECTORS + "v.parquet", 1, "v.parquet", spoil=parquet("v.parquet", id=["a"], vector=[[1.0, float("nan")]])
    ),
    "infinite vectors": bad(
        VECTORS + "v.npz", 1, "v.npz", spoil=arrays("v.npz", id=np.array(["a"]), vector=np.array([[np.inf, 0.0]]))
    ),
    "vectors of objects": bad(
        VECTORS + "v.npz", 1, "v.npz", spoil=arrays("v.npz", id=np.array(["a"]), vector=np.array([{}], dtype=object))
    ),
    "an id twice": bad(
        VECTORS + "v.parquet", 1, "v.parquet", spoil=parquet("v.parquet", id=["a", "a"], vector=[[1.0, 2.0]] * 2)
    ),
    "vectors of no image": bad(
        VECTORS + "v.parquet", 1, "has no vector of", spoil=parquet("v.parquet", id=["q"], vector=[[1.0, 2.0]])
    ),
    "half an archive": bad(VECTORS + "v.npz", 1, "v.npz", spoil=write("v.npz", b"PK\x03\x04half")),
}


@pytest.mark.parametrize("name", DATA)
def test_wrong_data(name, cli, places):
    DATA[name].spoil(places["tmp"])
    check(DATA[name], cli, places["tmp"], **places)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.usefixtures("imported")
def test_a_wrong_table_of_exemplars(name, cli, places):
    TABLES[name].spoil(places["tmp"])
    check(TABLES[name], cli, places["tmp"], **places)
