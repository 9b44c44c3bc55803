import numpy as np
import pytest

from vitask.data.sources.npz import array_header, read_array, stream_rows
from vitask.errors import VitaskError


class Touch:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_rows_header_and_array_agree_with_numpy(save_npz):
    data = np.random.default_rng(0).integers(256, size=(5, 4, 4, 3), dtype=np.uint8)
    path = save_npz({"a": data, "b": np.arange(6).reshape(3, 2)})
    assert array_header(path, "a") == ((5, 4, 4, 3), np.dtype("uint8"))
    assert np.array_equal(np.stack(list(stream_rows(path, "a"))), data)
    assert np.array_equal(read_array(path, "b"), np.arange(6).reshape(3, 2))


def test_missing_key_lists_what_there_is(save_npz):
    path = save_npz({"a": np.zeros(2), "b": np.zeros(2)})
    with pytest.raises(VitaskError, match=r"\.npz: has no array 'c'; it holds a, b"):
        read_array(path, "c")


def test_pickled_objects_are_refused_and_not_run(save_npz, tmp_path):
    path = save_npz({"a": np.array([Touch(tmp_path / "ran")], dtype=object)})
    with pytest.raises(
        VitaskError, match="'a' holds pickled Python objects, which can run any code when loaded: refused"
    ):
        read_array(path, "a")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip at all", b"\x93NUMPY"])
def test_not_a_zip(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(VitaskError, match=r"x\.npz: not a complete \.npz file"):
        array_header(path, "a")


def test_truncated_and_damaged_files(save_npz):
    path = save_npz({"a": np.random.default_rng(0).integers(256, size=(50, 8, 8), dtype=np.uint8)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VitaskError, match=r"not a complete \.npz file"):
        array_header(path, "a")
    path.write_bytes(whole[:800] + b"\0" * 200 + whole[1000:])
    with pytest.raises(VitaskError, match=r"not a complete \.npz file"):
        list(stream_rows(path, "a"))


def test_fortran_order(save_npz):
    path = save_npz({"a": np.asfortranarray(np.arange(6).reshape(2, 3))})
    with pytest.raises(VitaskError, match="'a' is in Fortran order"):
        array_header(path, "a")
