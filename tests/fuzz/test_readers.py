"""Damaged files and wild values: a reader gives what it read, or one line of its own; nothing else leaves it."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitask.config.compose import compose_config
from vitask.data.sources.npz import array_header, read_array, stream_rows
from vitask.data.sources.table_files import read_table
from vitask.data.sources.vectors import read_vectors
from vitask.errors import VitaskError
from vitask.runs.folder import RunFolder, read_json

from .examples import examples

edits = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "cut", "insert", "flip", "end"]), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, changes) -> bytes:
    """The bytes with some of them set, cut out, inserted or flipped, or with the end missing."""
    for where, how, new in changes:
        place = int(where * len(data))
        if how == "end":
            data = data[:place]
        elif how == "flip" and place < len(data):
            data = data[:place] + bytes([data[place] ^ (1 << 2 * (len(new) % 4))]) + data[place + 1 :]
        else:
            data = data[:place] + new + data[place + {"set": len(new), "cut": 3 * len(new)}.get(how, 0) :]
    return data


def npz(compressed: bool) -> bytes:
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, id=np.array(["a", "b", "c"]), vector=np.arange(12, dtype=np.float32).reshape(3, 4))
    return file.getvalue()


TABLE = pandas.DataFrame(
    {"id": ["a", "b", "c"], "label": ["x", "y|z", "x"], "vector": [[1.0, 2.0], [3.0, 4.0], [5, 6.0]]}
)


def table(ending: str) -> bytes:
    file = io.BytesIO()
    if ending == "parquet":
        TABLE.to_parquet(file)
    elif ending == "xlsx":
        TABLE.to_excel(file, index=False)
    elif ending == "jsonl":
        return TABLE.to_json(orient="records", lines=True).encode()
    else:
        return TABLE.to_csv(index=False, sep="\t" if ending == "tsv" else ",").encode()
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compressed", [False, True])
@examples(60)
@given(changes=edits)
def test_npz(tmp_path, compressed, changes):
    path = tmp_path / "damaged.npz"
    path.write_bytes(damaged(npz(compressed), changes))
    for read in (array_header, read_array, lambda *args: list(stream_rows(*args))):
        with suppress(VitaskError):
            read(path, "vector")
    with suppress(VitaskError):
        read_vectors(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
@examples(25)
@given(changes=edits)
def test_tables(tmp_path, ending, changes):
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(damaged(table(ending), changes))
    with suppress(VitaskError):
        found = read_table(path)
        for values in found.columns.values():
            list(values)
    with suppress(VitaskError):
        read_vectors(path)


KEYS = ("optim.lr", "optim.epochs", "seed", "data.fractions", "vlm.train_tower", "tsm.name", "tag", "stage", "data")
wild = st.one_of(
    st.text(max_size=10),
    st.sampled_from(
        ["null", "nan", "-1", "1e400", "[1,2]", "{a: 1}", "${seed}", "${oc.env:HOME}", "???", "'", "a=b", "~"]
    ),
    st.integers().map(str),
    st.floats().map(str),
)


@pytest.mark.slow
@examples(60, share=0.3)
@given(key=st.one_of(st.sampled_from(KEYS), st.text(max_size=6)), value=wild)
def test_overrides(key, value):
    with suppress(VitaskError):
        compose_config("train", [f"{key}={value}"])


@pytest.fixture(scope="module")
def config_text() -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(compose_config("train", [])))


@pytest.mark.slow
@examples(20, share=0.1)
@given(changes=edits)
def test_the_config_of_a_run(tmp_path, config_text, changes):
    (tmp_path / "config.yaml").write_bytes(damaged(config_text.encode(), changes))
    with suppress(VitaskError):
        RunFolder(tmp_path).config()


@examples(60)
@given(changes=edits)
def test_json_of_a_run(tmp_path, changes):
    path: Path = tmp_path / "summary.json"
    path.write_bytes(damaged(json.dumps({"stage": "ep", "steps": 3, "cost": {"flops": 1e9}}).encode(), changes))
    with suppress(VitaskError):
        assert isinstance(read_json(path), dict)
