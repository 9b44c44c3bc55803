"""A table of vectors: the same from every kind of file, and what is wrong with it in one line."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from vitask.data import read_vectors, vectors_digest
from vitask.errors import UsageError, VitaskError

IDS = ["a/1.png", "b, c", "7"]


@pytest.fixture(params=[(3,), (1, 3), (4, 3)], ids=str)
def values(request) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, *request.param)).astype(np.float32)


def write(path, ids, values):
    rows = [json.dumps(row) for row in values.tolist()]
    if path.suffix == ".parquet":
        parquet.write_table(pa.table({"id": ids, "vector": values.tolist()}), path, row_group_size=2)
    elif path.suffix == ".npz":
        np.savez(path, id=np.array(ids), vector=values)
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(f'{{"id": {json.dumps(i)}, "vector": {row}}}\n' for i, row in zip(ids, rows, strict=True))
        )
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text(
            "".join(f'"{i}"{mark}"{row}"\n' for i, row in zip(["id", *ids], ["vector", *rows], strict=True))
        )
    return path


@pytest.mark.parametrize("kind", ["parquet", "npz", "jsonl", "csv", "tsv"])
def test_every_kind_of_file_gives_the_same(kind, values, tmp_path):
    found = read_vectors(write(tmp_path / f"v.{kind}", IDS, values))
    assert list(found.ids) == IDS
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values, values.reshape(3, -1, 3))


def test_arrow_lists_of_any_kind_and_numbers_as_ids(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    flat = [pa.array(values.ravel().astype(kind)) for kind in (np.float16, np.float64, np.int64)]
    offsets = pa.array([0, 2, 4, 6])
    columns = [
        pa.FixedSizeListArray.from_arrays(flat[0], 2),
        pa.LargeListArray.from_arrays(offsets.cast("int64"), flat[1]),
        pa.ListArray.from_arrays(offsets.cast("int32"), flat[2]),
    ]
    for number, column in enumerate(columns):
        parquet.write_table(
            pa.table({"id": [1, 2, 3], "vector": column, "other": ["x"] * 3}), tmp_path / f"{number}.parquet"
        )
        found = read_vectors(tmp_path / f"{number}.parquet")
        assert list(found.ids) == ["1", "2", "3"]
        assert np.array_equal(found.values[:, 0], values)


GOOD = '{"id": "a", "vector": [1, 2]}\n'
BROKEN = {
    "another width": (GOOD + '{"id": "b", "vector": [1, 2, 3]}\n', "line 2: has a vector of another shape"),
    "another depth": (GOOD + '{"id": "b", "vector": [[1, 2]]}\n', "not all lists of numbers"),
    "ragged": ('{"id": "a", "vector": [[1, 2], [3]]}\n', "line 1: has a vector of another shape"),
    "absent": (GOOD + '{"id": "b"}\n', "line 2: has no vector"),
    "text": ('{"id": "a", "vector": [1, "x"]}\n', "not all lists of numbers"),
    "no list": ('{"id": "a", "vector": 1}\n', "not lists of numbers"),
    "empty": ('{"id": "a", "vector": []}\n', "not lists of numbers"),
    "one value": ('{"id": "a", "vector": [1]}\n', "at least two numbers"),
    "too deep": ('{"id": "a", "vector": [[[1, 2]]]}\n', "at least two numbers"),
    "NaN": (GOOD + '{"id": "b", "vector": [1, NaN]}\n', "line 2: the vector holds a value that is not finite"),
    "null": (GOOD + '{"id": "b", "vector": [1, null]}\n', "line 2: the vector holds a value that is not finite"),
    "overflow": ('{"id": "a", "vector": [1e300, 1]}\n', "not finite in float32"),
    "twice": (GOOD + GOOD, "line 2: the id 'a' occurs before, in"),
    "no id": (GOOD + '{"vector": [1, 2]}\n', "line 2: the id is empty"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_row_is_named(what, tmp_path):
    text, message = BROKEN[what]
    (tmp_path / "v.jsonl").write_text(text)
    with pytest.raises(VitaskError, match=r"v\.jsonl") as caught:
        read_vectors(tmp_path / "v.jsonl")
    assert message in str(caught.value)
    assert caught.value.exit_code == 1


def test_other_files_are_refused(tmp_path):
    for name, text, kind, message in [
        ("v.txt", "", UsageError, "unknown kind of table of vectors; there are .csv"),
        ("v.csv", "id,vectors\na,1\n", UsageError, "Did you mean 'vectors'?"),
        ("w.csv", "id,vector\n", VitaskError, "has no rows"),
        ("x.csv", 'id,vector\na,"[1, 2"\n', VitaskError, "line 2: the vector is not a JSON list"),
        ("v.npz", "no zip", VitaskError, "not a complete .npz file"),
        ("v.parquet", "none", VitaskError, "not a complete Parquet file"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(kind, match=name.replace(".", r"\.")) as caught:
            read_vectors(tmp_path / name)
        assert message in str(caught.value)
    for key in (read_vectors, vectors_digest):
        with pytest.raises(VitaskError, match="no such file"):
            key(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": ["a"], "vector": [[1.0, 2.0]]}, "has no array 'id'; it holds ids, vector"),
        ({"id": ["a"], "vector": [[1.0, 2.0]] * 2}, "both need a row a sample"),
        ({"id": ["a"], "vector": [["x", "y"]]}, "holds no numbers"),
        ({"id": np.array(["a"], dtype=object), "vector": [[1.0, 2.0]]}, "pickled Python objects"),
    ],
)
def test_a_wrong_archive_is_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(VitaskError, match=r"v\.npz") as caught:
        read_vectors(tmp_path / "v.npz")
    assert message in str(caught.value)


def test_the_digest_follows_the_content_and_not_the_place(tmp_path):
    values = np.ones((1, 2))
    first = vectors_digest(write(tmp_path / "a.csv", ["a"], values))
    assert vectors_digest(write(tmp_path / "b.csv", ["a"], values)) == first
    assert vectors_digest(write(tmp_path / "a.csv", ["a"], 2.5 * values)) != first
