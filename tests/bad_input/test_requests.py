"""Command lines, configurations and data that are wrong, before anything has been trained."""

from __future__ import annotations

import csv
import io
import struct
import zlib

import numpy as np
import pytest

from .case import bad, check, write

TABLE = "data | inspect | data=table | data.path={tmp}/t.csv | cache={cache} | out={out}"
FOLDER = "data | inspect | data=image_folder | data.root={tmp}/photos | cache={cache} | out={out}"
TRAIN = (
    "train | out={out} | cache={cache} | launch.device=cpu | data.train_fraction=0.1 | optim.epochs=1 | "
    "tsm.optim.epochs=1 | "
)


def png(width: int, height: int) -> bytes:
    """A PNG whose header promises a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def table(*rows: tuple[str, ...]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([("image", "label"), *rows])
    return out.getvalue()


def vectors(name: str, **arrays):
    def spoil(folder):
        np.savez(folder / name, **arrays)

    return spoil


def parquet(name: str, **columns):
    def spoil(folder):
        import pyarrow as pa
        from pyarrow import parquet as pq

        pq.write_table(pa.table(columns), folder / name)

    return spoil


REQUESTS = {
    "no such table of exemplars": bad(TRAIN + "stage=ep | exemplar.table={tmp}/v.parquet", 1, "v.parquet"),
    "no such stage to start from": bad(TRAIN + "stage=crt | stage.init_from=epp", 2, "stage 'epp'"),
    "starts from a TSM": bad(TRAIN + "stage=vanilla | stage.init_from=tsm", 2, "stage.init_from=tsm"),
    "starts from the pipeline": bad(TRAIN + "stage=ep | stage.init_from=all", 2, "stage.init_from=all"),
    "empty pipeline": bad(TRAIN + "stage.pipeline=[]", 2, "stage.pipeline"),
    "infinite rate": bad(TRAIN + "stage=vanilla | optim.lr=inf", 2, "optim.lr"),
    "infinite weight": bad(TRAIN + "stage=ep | objective.alpha=inf", 2, "objective.alpha"),
    "seeds are not numbers": bad("ablate | demo | seeds=[x,y]", 2, "seeds"),
    "a grid of an unknown reference": bad("ablate | demo | references=[vanila]", 2, "Did you mean 'vanilla'?"),
    "a grid with a broken row": bad("ablate | demo | rows.x=[sed=1] | out={out}", 2, "sed"),
    "grids of nothing": bad("ablate | demo | rows=null", 2, "rows"),
}

DATA = {
    "table is a folder": bad(TABLE, 1, "t.csv", spoil=lambda folder: (folder / "t.csv").mkdir()),
    "UTF-16": bad(TABLE, 1, "not a UTF-8 text table", spoil=write("t.csv", table(("a.png", "a")).encode("utf-16"))),
    "NUL bytes": bad(TABLE, 1, "t.csv", spoil=write("t.csv", b"image,label\na\0.png,a\n")),
    "long row": bad(TABLE, 1, "line 2", spoil=write("t.csv", "image,label\na.png,a,b,c\n")),
    "header alone, quoted": bad(TABLE, 1, "t.csv", spoil=write("t.csv", '"image')),
    "a huge cell": bad(TABLE, 1, "t.csv", spoil=write("t.csv", f"image,label\na.png,{'x' * 200_000}\n")),
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
        spoil=vectors("pneumoniamnist.npz", other=np.zeros(2)),
    ),
    "no set of that name": bad(
        "data | inspect | data=medmnist | data.name=dermnist | data.root={tmp}", 2, "dermamnist"
    ),
    "ham10000 without its table": bad("data | inspect | data=ham10000 | data.root={tmp}", 1, "HAM10000"),
    "aptos without its table": bad("data | inspect | data=aptos2019 | data.root={tmp}", 1, "train.csv"),
    "hub folder that is empty": bad(
        "data | inspect | data=hub | data.path={tmp}/h | cache={cache}",
        1,
        "/h",
        spoil=lambda folder: (folder / "h").mkdir(),
    ),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def places(tmp_path, cache):
    return {"tmp": tmp_path, "out": tmp_path / "runs", "cache": cache}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_wrong_request(name, cli, places, monkeypatch):
    monkeypatch.setenv("VITASK_CONFIG_DIR", "")
    REQUESTS[name].spoil(places["tmp"])
    check(REQUESTS[name], cli, places["tmp"], **places)


@pytest.mark.parametrize("name", DATA)
def test_wrong_data(name, cli, places):
    DATA[name].spoil(places["tmp"])
    check(DATA[name], cli, places["tmp"], **places)
