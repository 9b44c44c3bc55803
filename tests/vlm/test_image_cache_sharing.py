"""One folder, several files and processes: its budget, the disk, waiting for one another, and being killed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest
import torch

from vitask.vlm import image_cache

from .caching import call, encode, files, make_inputs, no_encode, unfinished

FORK = multiprocessing.get_context("fork")


class TestRoom:
    KEYS = tuple({"weights": name} for name in "abcd")

    @pytest.fixture
    def size(self, tmp_path):
        """Size of one file, in GB."""
        call(tmp_path / "one")
        return files(tmp_path / "one")[0].stat().st_size / 1e9

    def test_a_file_over_the_budget_is_not_made_and_removes_nothing(self, tmp_path, size):
        lines = []
        call(tmp_path)
        assert call(tmp_path, no_encode, key={}, budget_gb=0.99 * size, say=lines.append) is None
        assert len(files(tmp_path)) == 1
        assert len(lines) == 1
        assert "over the budget" in lines[0]
        assert call(tmp_path, key={}, budget_gb=size) is not None

    def test_the_least_recently_used_make_room(self, tmp_path, size):
        a, b, c, d = self.KEYS
        for key in (a, b, c):
            call(tmp_path, key=key, budget_gb=3 * size)
            time.sleep(0.01)
        assert len(files(tmp_path)) == 3
        still_open = call(tmp_path, no_encode, key=b)
        time.sleep(0.01)
        call(tmp_path, no_encode, key=a)
        call(tmp_path, key=d, budget_gb=3 * size)
        assert len(files(tmp_path)) == 3
        for key in (a, b, d):
            call(tmp_path, no_encode, key=key)
        time.sleep(0.01)
        call(tmp_path, key=c, budget_gb=size)
        assert len(files(tmp_path)) == 1
        assert torch.equal(still_open.values, call(tmp_path, no_encode, key=c).values)

    def test_files_of_others_stay(self, tmp_path, size):
        for name in ("notes.txt", "exemplars-1.safetensors"):
            (tmp_path / name).write_bytes(bytes(9999))
        call(tmp_path, key=self.KEYS[0], budget_gb=size)
        call(tmp_path, key=self.KEYS[1], budget_gb=size)
        assert [path.name[:9] for path in files(tmp_path)] == ["exemplars", "image-fea"]
        assert (tmp_path / "notes.txt").exists()

    def test_the_disk_is_not_filled(self, tmp_path, size, monkeypatch):
        lines, capacity = [], image_cache.SPARE_BYTES + int(2.5e9 * size)

        def usage(folder):
            return SimpleNamespace(free=capacity - sum(path.stat().st_size for path in files(folder)))

        monkeypatch.setattr(image_cache.shutil, "disk_usage", usage)
        for key in self.KEYS[:3]:
            assert call(tmp_path, key=key) is not None
        assert len(files(tmp_path)) == 2
        capacity = image_cache.SPARE_BYTES
        assert call(tmp_path, no_encode, key=self.KEYS[3], say=lines.append) is None
        assert len(lines) == 1
        assert "disk" in lines[0]
        assert len(files(tmp_path)) == 2

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_disk_that_fills_up_meanwhile_ends_in_a_line(self, tmp_path, number):
        def full(inputs):
            raise OSError(number, os.strerror(number))

        lines = []
        assert call(tmp_path, full, say=lines.append) is None
        assert len(lines) == 1
        assert "is full" in lines[0]
        assert files(tmp_path) == unfinished(tmp_path) == []

    def test_other_errors_are_not_hidden(self, tmp_path):
        def broken(inputs):
            raise OSError(errno.EIO, "broken")

        with pytest.raises(OSError, match="broken"):
            call(tmp_path, broken)


def _in_another_process(folder, barrier, results, wait, **options):
    torch.set_num_threads(1)

    def counted(inputs):
        with (folder / "encodes").open("a") as file:
            file.write("x")
        time.sleep(wait)
        return encode(inputs)

    barrier.wait(60)
    results.put(call(folder, counted, **options).values.numpy().tobytes())


def _at_once(folder, each_options):
    """Let processes ask at once; return what each of them gets."""
    barrier, results = FORK.Barrier(len(each_options)), FORK.Queue()
    workers = [
        FORK.Process(target=_in_another_process, args=(folder, barrier, results, 0.1), kwargs=options)
        for options in each_options
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    return found


class TestProcesses:
    def test_several_at_once_compute_once(self, tmp_path):
        found = _at_once(tmp_path, [{}, {}, {}])
        assert set(found) == {encode(make_inputs()).numpy().tobytes()}
        assert (tmp_path / "encodes").read_text() == "xxx", "three batches, once"
        assert unfinished(tmp_path) == []

    def test_those_that_take_the_room_of_one_another_compute_once_each(self, tmp_path):
        call(tmp_path)
        budget_gb = files(tmp_path)[0].stat().st_size / 1e9
        found = _at_once(tmp_path, [{"key": {"weights": name}, "budget_gb": budget_gb} for name in "bcd"])
        assert found == [encode(make_inputs()).numpy().tobytes()] * 3
        assert (tmp_path / "encodes").read_text() == 3 * "xxx"
        assert len(files(tmp_path)) == 1

    def test_a_killed_writer_leaves_nothing_that_is_served(self, tmp_path):
        worker = FORK.Process(target=_in_another_process, args=(tmp_path, FORK.Barrier(1), FORK.Queue(), 0.3))
        worker.start()
        deadline = time.monotonic() + 60
        while not (tmp_path / "encodes").exists() or len((tmp_path / "encodes").read_text()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        worker.kill()
        worker.join(60)
        assert len(unfinished(tmp_path)) == 1
        assert files(tmp_path) == []
        assert torch.equal(call(tmp_path).values, encode(make_inputs()))
        assert unfinished(tmp_path) == []
        assert len(files(tmp_path)) == 1
