"""Memory does not grow with the data: converting and streaming, measured in processes of their own."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitask.data import pages
from vitask.data.conversion import convert
from vitask.data.images import FileImages

SCRIPT = Path(__file__).parents[2] / "scripts/benchmark_data.py"


def peak(gigabytes, tmp_path):
    command = [sys.executable, SCRIPT, str(gigabytes), "--members=1", "--here", f"--cache={tmp_path / str(gigabytes)}"]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True, timeout=240)
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not pages.MAPS.is_file(), reason="pages are given back on Linux only")
def test_the_peak_of_a_gigabyte_is_that_of_a_quarter(tmp_path):
    small, large = peak(0.25, tmp_path), peak(1, tmp_path)
    print(small, large, sep="\n")
    assert large["images"] > 3.9 * small["images"]
    assert large["peak_mb"] <= 1.1 * small["peak_mb"]


def test_the_column_of_images_survives_pickling_and_counts_what_it_decodes(tmp_path, monkeypatch):
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "a.png")
    made = convert(FileImages([tmp_path / "a.png"]), ["a"], cache_dir=tmp_path / "cache").dataset
    released = []
    monkeypatch.setattr(pages, "release_pages", lambda: released.append(1))
    monkeypatch.setattr(pages, "RELEASE_BYTES", 2 * pages.AROUND)
    pages.METER.decoded = 0
    for each in (made, pickle.loads(pickle.dumps(made)), made.select([0])):
        assert np.asarray(each[0]["image"]).ravel().tolist() == list(range(48))
        assert np.asarray(each["image"][0]).ravel().tolist() == list(range(48))
    assert len(released) == 3


def test_pages_that_were_given_back_can_be_read_again(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        Image.new("RGB", (64, 64), (i, i, i)).save(path)
    made = convert(FileImages(paths), [path.name for path in paths], cache_dir=tmp_path / "cache").dataset
    assert pages.release_pages() > 0 or not pages.MAPS.is_file()
    assert [row["image"].getpixel((0, 0))[0] for row in made] == list(range(5))
