from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from vitask.files import (
    SAMPLED,
    atomic_folder,
    atomic_write,
    csv_text,
    file_size,
    read_tensors,
    remove_leftovers,
    sampled_digest,
    tensors_digest,
    write_tensors,
    written,
)
from vitask.training.checkpoint import Checkpoints

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_mapped_from(tensor: torch.Tensor, path: Path) -> bool:
    """Whether the tensor's memory is a map of the file, by what Linux says of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        start, end = (int(edge, 16) for edge in span.split("-"))
        if start <= tensor.data_ptr() < end:
            return name == str(path)
    return False


@pytest.fixture
def example(tmp_path):
    """A file of two tensors, written in pieces."""
    counts, values = torch.arange(3), torch.randn(5, 2, 3).bfloat16()
    layout = {"counts": (torch.int64, (3,)), "values": (torch.bfloat16, (5, 2, 3))}
    path = tmp_path / "example.safetensors"
    write_tensors(path, layout, [counts, values[:2], values[2:2], values[2:]])
    return path, layout, {"counts": counts, "values": values}


class TestAtomicWrite:
    def test_puts_a_file_in_place_of_the_old_one(self, tmp_path):
        path = tmp_path / "text"
        path.write_text("old")
        atomic_write(path, lambda temporary: temporary.write_text("new"))
        assert path.read_text() == "new"
        assert names(tmp_path) == ["text"]

    def test_keeps_the_old_file_when_writing_fails(self, tmp_path):
        path = tmp_path / "text"
        path.write_text("old")

        def fail(temporary: Path) -> None:
            temporary.write_text("ne")
            assert temporary.parent == tmp_path
            assert path.read_text() == "old"
            raise OSError("no space")

        with pytest.raises(OSError, match="no space"):
            atomic_write(path, fail)
        assert path.read_text() == "old"
        assert names(tmp_path) == ["text"]

    def test_leftovers_of_a_killed_process_are_removed_by_name(self, tmp_path):
        def die(temporary: Path) -> None:
            temporary.write_text("half")
            os._exit(9)

        for name in ("cache-1.bin", "cache-2.bin", "other.bin"):
            if (child := os.fork()) == 0:
                atomic_write(tmp_path / name, die)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        (tmp_path / "cache-3.bin").touch()
        assert len(names(tmp_path)) == 4
        remove_leftovers(tmp_path, "cache-*.bin")
        left, kept = names(tmp_path)
        assert left.startswith(".other.bin.")
        assert kept == "cache-3.bin"


class TestTensors:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", [(7,), (5, 3, 1), (0, 4), (2, 0)], ids=str)
    def test_come_back_bit_by_bit(self, tmp_path, dtype, shape):
        values = (100 * torch.randn(shape)).to(dtype)
        write_tensors(tmp_path / "x", {"values": (dtype, shape)}, values.split(2))
        found = read_tensors(tmp_path / "x")
        assert list(found) == ["values"]
        assert found["values"].dtype == dtype
        assert torch.equal(found["values"], values)

    def test_are_mapped_not_read(self, example):
        path, _, expected = example
        found = read_tensors(path)
        assert all(is_mapped_from(tensor, path) for tensor in found.values())
        path.unlink()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert not is_mapped_from(expected["values"], path)

    def test_plain_safetensors_reads_the_file(self, example):
        path, _, expected = example
        with safe_open(path, "pt") as file:
            assert set(file.keys()) == {"counts", "values", "sha256"}
            assert torch.equal(file.get_slice("values")[1:3], expected["values"][1:3])

    def test_size_is_known_beforehand(self, example):
        path, layout, _ = example
        assert file_size(layout) == path.stat().st_size

    def test_pieces_of_any_stride_are_written(self, tmp_path):
        values = torch.randn(4, 6).t()
        write_tensors(tmp_path / "x", {"values": (torch.float32, (6, 4))}, [values[::2], values[1::2]])
        assert torch.equal(read_tensors(tmp_path / "x")["values"], torch.cat([values[::2], values[1::2]]))

    @pytest.mark.parametrize(
        ("pieces", "told"),
        [
            ([(3, 2)], "lacks 1 of 4 rows"),
            ([(3, 2), (2, 2)], "lacks 1 rows"),
            ([(4, 3)], "lacks 4 rows"),
            ([(4, 2), (1, 2)], "1 rows more"),
        ],
    )
    def test_pieces_that_do_not_fit_are_refused(self, tmp_path, pieces, told):
        with pytest.raises(ValueError, match=told):
            write_tensors(tmp_path / "x", {"values": (torch.float32, (4, 2))}, map(torch.zeros, pieces))

    def test_a_piece_of_another_dtype_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="bfloat16"):
            write_tensors(tmp_path / "x", {"values": (torch.float32, (4,))}, [torch.zeros(4).bfloat16()])

    def test_any_damage_is_noticed(self, example):
        path, *_ = example
        data = path.read_bytes()
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert read_tensors(path) is None, at
        for end in (0, 1, 31, 32, 33, len(data) - 1):
            path.write_bytes(data[:end])
            assert read_tensors(path) is None, end
        path.write_bytes(data)
        assert read_tensors(path) is not None

    def test_no_file_is_not_a_damaged_one(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_tensors(tmp_path / "x")


class TestTensorsDigest:
    def test_sees_names_dtypes_shapes_and_bytes(self):
        x = torch.arange(6.0)
        changed = x.clone()
        changed[3] = torch.nextafter(changed[3], torch.tensor(9.0))
        states = [{"x": x}, {"y": x}, {"x": x.view(2, 3)}, {"x": x.view(torch.int32)}, {"x": changed}, {"x": x, "y": x}]
        assert len({tensors_digest(state) for state in states}) == len(states)

    def test_does_not_see_order_or_layout(self):
        x, y = torch.randn(4, 3), torch.tensor(2, dtype=torch.int64)
        assert tensors_digest({"x": x, "y": y}) == tensors_digest({"y": y, "x": x.t().contiguous().t()})

    def test_takes_parameters(self):
        module = nn.BatchNorm1d(3)
        assert tensors_digest(module.state_dict()) == tensors_digest(module.state_dict(keep_vars=True))


def test_a_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "deep/model") as folder:
        (folder / "labels.txt").write_text("new")
        assert not (tmp_path / "deep/model").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]
    with atomic_folder(tmp_path / "deep/model") as folder:
        (folder / "labels.txt").write_text("newer")
    assert (tmp_path / "deep/model/labels.txt").read_text() == "newer"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_asks_for(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "adapter").mkdir()
            save_file({"w": torch.ones(1)}, folder / "adapter/weights.safetensors")
        atomic_write(tmp_path / "weights.safetensors", lambda path: save_file({"w": torch.ones(1)}, path))
        Checkpoints(tmp_path / "checkpoints").save(1, {"w": torch.ones(1)}, {})
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == {path.name: mode for path in files}
    assert os.umask(before) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_that_could_not_be_filled_leaves_the_earlier_one(error, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/labels.txt").write_text("old")

    def fail() -> None:
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "labels.txt").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model/labels.txt").read_text() == "old"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("renamed", [0, 1])
def test_whatever_stops_the_exchange_of_folders_one_of_them_stays(error, renamed, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/labels.txt").write_text("old")
    rename, calls = Path.rename, []

    def interrupted(path: Path, target: Path) -> Path:
        """Ctrl-C behind the first rename, or an error of the second."""
        calls.append(path)
        done = rename(path, target) if len(calls) != renamed + 1 or error is KeyboardInterrupt else None
        if len(calls) == renamed + 1:
            raise error
        return done

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error), atomic_folder(tmp_path / "model") as folder:
        (folder / "labels.txt").write_text("new")
    kept = "new" if renamed and error is KeyboardInterrupt else "old"
    assert (tmp_path / "model/labels.txt").read_text() == kept
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("cell", ["a\rb", "a\nb", "a\r\nb", 'say "no"', "a,b", " ", "", "µ"])
def test_any_cell_comes_back_from_a_csv(cell, tmp_path):
    text = csv_text([["id", "text", "p"], ["1", cell, "0.5"]])
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["id", "text", "p"], ["1", cell, "0.5"]]
    assert csv_text([["id", "text"], [1, "plain"]]) == "id,text\n1,plain\n"


class TestWritten:
    @pytest.mark.parametrize(
        ("error", "number", "said"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC, "No space left on device"),
            (SafetensorError("I/O error: No space left on device (os error 28)"), 28, "No space left on device"),
            (SafetensorError("of another kind"), errno.EIO, "of another kind"),
        ],
    )
    def test_an_error_has_a_number_and_names_the_file(self, error, number, said):
        with pytest.raises(OSError, match=said) as raised, written(Path("a/model")):
            raise error
        assert (raised.value.errno, raised.value.filename) == (number, "a/model")

    def test_a_file_that_is_named_stays(self):
        with pytest.raises(FileNotFoundError) as raised, written(Path("a/model")):
            raise FileNotFoundError(errno.ENOENT, "No such file", "b")
        assert raised.value.filename == "b"

    def test_an_error_that_is_not_the_system_s_keeps_its_words(self):
        with pytest.raises(OSError, match=r"^a text alone$"), written(Path("a/model")):
            raise OSError("a text alone")


def test_a_sampled_digest_tells_weights_apart_and_does_not_read_all():
    x = torch.arange(10 * SAMPLED, dtype=torch.float32).reshape(10, -1)
    known = sampled_digest({"x": x, "y": x[0]})
    assert known == sampled_digest({"y": x[0].clone(), "x": x.clone()})
    others = [{"x": x * 1.5, "y": x[0]}, {"x": x.t(), "y": x[0]}, {"z": x, "y": x[0]}, {"x": x.double(), "y": x[0]}]
    assert known not in map(sampled_digest, others)
    assert sampled_digest({"scalar": torch.tensor(1.0)}) != sampled_digest({"scalar": torch.tensor(2.0)})
