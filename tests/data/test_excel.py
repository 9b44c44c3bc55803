"""Excel tables, read with the extra `excel`: a table of one's own, and MESSIDOR as it is published."""

import struct
import sys

import numpy as np
import pytest
from PIL import Image

from vitask.data import load_messidor_task, load_table_task
from vitask.data.sources.table_files import read_table
from vitask.errors import UsageError, VitaskError

HEADER = ["Image name", "Ophthalmologic department", "Retinopathy grade", "Risk of macular edema "]
BOF, LABEL, NUMBER, EOF = 0x0009, 0x0004, 0x0003, 0x000A  # records of an Excel 2 worksheet


def write_xls(path, rows):
    """Write texts and numbers as the oldest kind of .xls, which needs no library."""
    pytest.importorskip("xlrd")
    records = [(BOF, struct.pack("<HH", 2, 0x10))]
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            place = struct.pack("<HH3x", y, x)
            text = isinstance(cell, str)
            value = struct.pack("B", len(cell)) + cell.encode("ascii") if text else struct.pack("<d", cell)
            records.append((LABEL if text else NUMBER, place + value))
    records.append((EOF, b""))
    path.write_bytes(b"".join(struct.pack("<HH", kind, len(body)) + body for kind, body in records))


def write_xlsx(path, rows):
    workbook = pytest.importorskip("openpyxl").Workbook()
    for row in rows:
        workbook.active.append(row)
    workbook.save(path)


WRITERS = {".xls": write_xls, ".xlsx": write_xlsx}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_of_ones_own(suffix, eight, tmp_path):
    csv = eight()
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    path = csv.with_suffix(suffix)
    WRITERS[suffix](path, rows)
    plain, task = (load_table_task(each, "leaf", cache_dir=tmp_path / "cache") for each in (csv, path))
    assert task.fingerprint == plain.fingerprint
    assert read_table(path).places[0] == f"{path}, row 2"


@pytest.mark.parametrize("suffix", WRITERS)
def test_messidor_as_it_is_published(suffix, tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "messidor"
    for base in (11, 12):
        names = [f"20051020_{base}{i:03d}_0100_PP.tif" for i in range(12)]
        (root / f"Base{base}").mkdir(parents=True)
        for name in names:
            Image.fromarray(rng.integers(256, size=(8, 9, 3), dtype=np.uint8)).save(root / f"Base{base}/{name}")
        rows = [[name, "Service Ophtalmologie", float(i % 4), 0.0] for i, name in enumerate(names)]
        WRITERS[suffix](root / f"Annotation_Base{base}{suffix}", [HEADER, *rows])
    task = load_messidor_task(root, cache_dir=tmp_path / "cache")
    assert sum(map(len, task.splits.values())) == 24
    for split in task.splits.values():
        for row in split:
            assert row["answer"] == int(row["id"].split("_")[1][2:]) % 4


@pytest.mark.parametrize(("suffix", "reader"), [(".xls", "xlrd"), (".xlsx", "openpyxl")])
def test_without_its_reader_the_extra_is_named(suffix, reader, tmp_path, monkeypatch, cli):
    monkeypatch.setitem(sys.modules, reader, None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match=rf"a\{suffix}: reading Excel files needs 'pip install vitask\[excel\]'"):
        read_table(path)
    assert cli("data", "inspect", "data=table", f"data.path={path}").refuses(2, "vitask[excel]")


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_no_excel_file_is_refused(suffix, tmp_path):
    pytest.importorskip({".xls": "xlrd", ".xlsx": "openpyxl"}[suffix])
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"image,label\n")
    with pytest.raises(VitaskError, match="not an Excel file"):
        read_table(path)
