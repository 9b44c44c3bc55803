"""The cache of converted images: whole or not there, one writer, never stale."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from vitask.data import conversion
from vitask.data.conversion import convert
from vitask.data.images import FileImages
from vitask.errors import VitaskError

SLOW = """
import sys, time
from pathlib import Path
from vitask.data import conversion
from vitask.data.images import FileImages

class Slow(FileImages):
    def items(self, start):
        with open(sys.argv[3], "a") as log:
            log.write(f"{start}\\n")
        for item in super().items(start):
            time.sleep(float(sys.argv[4]))
            yield item

conversion.SHARD_ROWS = 4
paths = sorted(Path(sys.argv[1]).glob("*.png"))
made = conversion.convert(Slow(paths), [path.name for path in paths], cache_dir=sys.argv[2])
print(len(made.dataset), made.content)
"""


@pytest.fixture
def images(tmp_path):
    """Write images of random pixels and return their source."""

    def write(count=20, seed=0, size=(8, 12), mode="RGB"):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(seed)
        paths = [folder / f"{i:02d}.png" for i in range(count)]
        for path in paths:
            Image.fromarray(rng.integers(256, size=(*size, 3), dtype=np.uint8)).convert(mode).save(path)
        return FileImages(paths)

    return write


def ids(source):
    return [path.name for path in source.paths]


def test_images_come_back_as_they_were_in_order(images, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "SHARD_ROWS", 7)
    source = images()
    made = convert(source, ids(source), cache_dir=tmp_path / "cache")
    assert made.dataset["id"][:] == ids(source)
    assert made.rows.tolist() == list(range(20))
    assert (made.sizes[0].tolist(), made.skipped) == ([12, 8], [])
    for row, path in zip(made.dataset, source.paths, strict=True):
        assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(path)))
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 3


def test_a_second_time_nothing_is_read(images, tmp_path, monkeypatch):
    source = images()
    first = convert(source, ids(source), cache_dir=tmp_path / "cache")
    monkeypatch.setattr(FileImages, "items", None)
    again = convert(source, ids(source), cache_dir=tmp_path / "cache")
    assert (again.content, again.pixels.tolist()) == (first.content, first.pixels.tolist())


def test_a_changed_file_is_noticed_and_a_touched_one_keeps_the_content(images, tmp_path):
    source = images()
    first = convert(source, ids(source), cache_dir=tmp_path / "cache")
    os.utime(source.paths[3])
    assert convert(source, ids(source), cache_dir=tmp_path / "cache").content == first.content
    Image.new("RGB", (12, 8), "red").save(source.paths[3])
    changed = convert(source, ids(source), cache_dir=tmp_path / "cache")
    assert changed.content != first.content
    assert changed.dataset[3]["image"].getpixel((0, 0)) == (255, 0, 0)


def test_other_bytes_of_the_same_pixels_change_the_content_but_count_as_duplicates(images, tmp_path):
    source = images(count=2)
    pixels = Image.open(source.paths[0])
    pixels.save(source.paths[1], compress_level=0)
    made = convert(source, ids(source), cache_dir=tmp_path / "cache")
    assert made.pixels[0] == made.pixels[1]
    pixels.save(source.paths[0], compress_level=0)
    assert convert(source, ids(source), cache_dir=tmp_path / "cache").content != made.content


def start(folder, cache, log, delay):
    command = [sys.executable, "-c", SLOW, folder, cache, log, delay]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_in_the_middle_it_goes_on_behind_the_last_whole_shard(images, tmp_path):
    source, log, cache = images(), tmp_path / "log", tmp_path / "cache"
    process = start(tmp_path / "images", cache, log, 0.05)
    deadline = time.time() + 60
    while len(list(cache.rglob("[0-9]*.arrow"))) < 2 and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(cache.rglob(conversion.DONE))
    whole = {path: path.stat().st_mtime_ns for path in cache.rglob("[0-9]*.arrow")}
    again = start(tmp_path / "images", cache, log, 0)
    out, err = again.communicate()
    assert again.returncode == 0, err
    starts = [int(line) for line in log.read_text().split()]
    assert starts == [0, 4 * len(whole)]
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert out.split() == ["20", convert(source, ids(source), cache_dir=tmp_path / "other").content]
    assert not list(cache.rglob("*.tmp"))


def test_of_two_processes_at_once_one_converts(images, tmp_path):
    images()
    log = tmp_path / "log"
    both = [start(tmp_path / "images", tmp_path / "cache", log, 0.02) for _ in range(2)]
    ended = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert ended[0][0] == ended[1][0]
    assert log.read_text() == "0\n"


def test_a_shard_that_was_cut_since_is_written_anew(images, tmp_path):
    source = images()
    first = convert(source, ids(source), cache_dir=tmp_path / "cache")
    (shard,) = (tmp_path / "cache").rglob("*.arrow")
    whole = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(whole[: len(whole) // 2])
    again = convert(source, ids(source), cache_dir=tmp_path / "cache")
    assert again.pixels.tolist() == first.pixels.tolist()
    assert shard.stat().st_size == len(whole)
    (done,) = (tmp_path / "cache").rglob(conversion.DONE)
    done.write_text(json.dumps({"shards": 3}))
    assert convert(source, ids(source), cache_dir=tmp_path / "cache").pixels.tolist() == first.pixels.tolist()


def test_a_shard_with_a_damaged_byte_is_noticed_and_written_anew(images, tmp_path, capsys):
    source = images()
    first = convert(source, ids(source), cache_dir=tmp_path / "cache")
    (shard,) = (tmp_path / "cache").rglob("*.arrow")
    whole = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    again = convert(source, ids(source), cache_dir=tmp_path / "cache")
    assert "damaged since" in capsys.readouterr().err
    assert (again.content, shard.read_bytes()) == (first.content, whole)


def test_a_source_that_changes_meanwhile_is_an_error(images, tmp_path, monkeypatch):
    source = images()
    original = FileImages.items

    def meddle(self, start):
        yield from original(self, start)
        os.utime(self.paths[0])

    monkeypatch.setattr(FileImages, "items", meddle)
    with pytest.raises(VitaskError, match="the images changed while they were converted"):
        convert(source, ids(source), cache_dir=tmp_path / "cache")


def test_corrupt_images_end_the_conversion_or_are_left_out(images, tmp_path):
    source = images()
    source.paths[4].write_bytes(source.paths[4].read_bytes()[:60])
    source.paths[7].write_bytes(b"")
    with pytest.raises(VitaskError, match=rf"{source.paths[4]}: cannot read this image"):
        convert(source, ids(source), cache_dir=tmp_path / "cache")
    made = convert(source, ids(source), cache_dir=tmp_path / "cache", skip_corrupt=True)
    assert made.skipped == [4, 7]
    assert made.rows.tolist() == [row for row in range(20) if row not in (4, 7)]
    assert made.dataset["id"][:] == [f"{row:02d}.png" for row in made.rows]
    for path in source.paths:
        path.write_bytes(b"x")
    with pytest.raises(VitaskError, match="none of the 20 images can be read"):
        convert(source, ids(source), cache_dir=tmp_path / "cache", skip_corrupt=True)


@pytest.mark.parametrize(("mode", "kept"), [("RGB", "RGB"), ("L", "L"), ("P", "RGB"), ("RGBA", "RGB"), ("1", "L")])
def test_large_images_shrink_to_the_shorter_side_and_small_ones_stay(images, tmp_path, mode, kept):
    source = images(count=3, size=(30, 20), mode=mode)
    made = convert(source, ids(source), cache_dir=tmp_path / "cache", size=10)
    assert made.sizes.tolist() == [[10, 15]] * 3
    assert [row["image"].mode for row in made.dataset] == [kept] * 3
    same = convert(source, ids(source), cache_dir=tmp_path / "cache", size=20)
    assert same.sizes.tolist() == [[20, 30]] * 3
    assert made.content == same.content


def test_a_photograph_is_turned_upright_as_its_camera_says(tmp_path):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (30, 20)).save(buffer, format="JPEG", exif=exif)
    path = tmp_path / "a.jpg"
    path.write_bytes(buffer.getvalue())
    for size, shape in ((None, (20, 30)), (10, (10, 15))):
        made = convert(FileImages([path]), ["a"], cache_dir=tmp_path / "cache", size=size)
        assert made.dataset[0]["image"].size == tuple(made.sizes[0]) == shape
