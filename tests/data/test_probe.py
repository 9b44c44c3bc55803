"""Tables of images, prompts and answers: what they may look like, and what is refused."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from vitask.data.sources.probe import read_probe
from vitask.errors import UsageError, VitaskError

ROWS = [("a.png", "What is it?", "a ring"), ("b.png", "Repeat: star", "star"), ("a.png", "Which color?", "red")]


@pytest.fixture
def folder(tmp_path):
    for value, name in enumerate(("a.png", "b.png")):
        Image.new("L" if value else "RGB", (4 + value, 3), 50 * value).save(tmp_path / name)
    return tmp_path


def write(folder, kind: str):
    path = folder / f"probe.{kind}"
    names = ("image", "prompt", "answer")
    if kind == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS))
    elif kind == "csv":
        path.write_text("".join(",".join(row) + "\n" for row in [names, *ROWS]))
    else:
        columns = dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True))
        columns["image"] = [(folder / name).read_bytes() for name in columns["image"]]
        parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_kind_of_table_gives_the_same_rows(kind, folder):
    probe = read_probe(write(folder, kind))
    assert (probe.name, len(probe)) == ("probe", 3)
    rows = list(probe.rows())
    assert [row[1:] for row in rows] == [row[1:] for row in ROWS]
    for (image, *_), (name, *_) in zip(rows, ROWS, strict=True):
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(folder / name).convert("RGB")))


def test_the_fingerprint_changes_with_texts_and_images(folder):
    path = write(folder, "csv")
    first = read_probe(path).fingerprint()
    assert read_probe(path).fingerprint() == first
    Image.new("RGB", (9, 9)).save(folder / "b.png")
    second = read_probe(path).fingerprint()
    path.write_text(path.read_text().replace("star", "stars"))
    assert len({first, second, read_probe(path).fingerprint()}) == 3


def test_missing_columns_and_cells_are_named(folder):
    path = write(folder, "csv")
    whole = path.read_text()
    path.write_text(whole.replace("image,prompt", "image,promt"))
    with pytest.raises(UsageError, match=r"has no column 'prompt'. Did you mean 'promt'\?"):
        read_probe(path)
    path.write_text(whole.replace("star\n", " \n"))
    with pytest.raises(VitaskError, match=r"probe.csv, line 3: has no text in column 'answer'"):
        read_probe(path)
    path.write_text("image,prompt,answer\n")
    with pytest.raises(VitaskError, match="has no rows"):
        read_probe(path)


def test_a_damaged_image_is_named_with_its_row(folder):
    path = write(folder, "csv")
    png = io.BytesIO((folder / "b.png").read_bytes()[:40])
    (folder / "b.png").write_bytes(png.getvalue())
    with pytest.raises(VitaskError, match=r"probe.csv, line 3: .*b.png: cannot read this image"):
        list(read_probe(path).rows())
