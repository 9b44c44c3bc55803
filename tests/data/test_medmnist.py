from urllib.error import URLError

import numpy as np
import pytest
from medmnist import INFO

from vitask.data import load_medmnist_task
from vitask.data.sources.medmnist_texts import LABELS, MODALITIES, shipped_labels
from vitask.errors import UsageError, VitaskError


@pytest.fixture
def load(tmp_path):
    def load(name="pneumoniamnist", size=28, **options):
        return load_medmnist_task(name, tmp_path, size, cache_dir=tmp_path / "cache", **options)

    return load


def check_images(task, arrays, mode):
    for split, rows in task.splits.items():
        assert len(rows) == len(arrays[f"{split}_images"])
        for row, pixels in zip(rows, arrays[f"{split}_images"], strict=True):
            assert row["image"].mode == mode
            assert np.array_equal(np.asarray(row["image"]), pixels)


@pytest.mark.parametrize(("size", "file"), [(28, "pneumoniamnist.npz"), (64, "pneumoniamnist_64.npz")])
def test_grey_binary_set(load, npz_arrays, save_npz, size, file):
    arrays = npz_arrays(size=size)
    save_npz(arrays, file)
    task = load(size=size)
    check_images(task, arrays, "L")
    assert task.labels == ("normal", "pneumonia")
    assert task.splits["val"][3]["id"] == "pneumoniamnist-val-000003"
    for split, rows in task.splits.items():
        assert rows["answer"][:] == arrays[f"{split}_labels"][:, 0].tolist()
    assert task.notes == {"not the official set": "30/16/20 images in train/val/test, not the official 4708/524/624"}


def test_colour_multi_class_set_with_readable_labels(load, npz_arrays, save_npz):
    arrays = npz_arrays(classes=8, rgb=True)
    save_npz(arrays, "bloodmnist.npz")
    task = load("BloodMNIST")
    check_images(task, arrays, "RGB")
    assert task.labels[3] == "immature granulocyte"
    assert "leakage" not in task.notes


def test_retina_grades_have_words_unless_raw(load, npz_arrays, save_npz):
    save_npz(npz_arrays(classes=5, rgb=True), "retinamnist.npz")
    assert load("retina").labels[4] == "proliferative retinopathy"
    assert load("retina", raw_labels=True).labels == ("0", "1", "2", "3", "4")
    own = ["none", "mild", "moderate", "severe", "worst"]
    assert load("retina", label_texts=own).labels == tuple(own)
    with pytest.raises(UsageError, match=r"retinamnist has 5 labels .* label_texts has 2"):
        load("retina", label_texts=["a", "b"])


def test_chest_is_multi_label(load, npz_arrays, save_npz):
    arrays = npz_arrays(classes=14, multi_label=True)
    save_npz(arrays, "chestmnist.npz")
    task = load("chest", no_finding="clear", separator=" + ")
    assert task.multi_label
    assert task.answers[0].text == "clear"
    for split, rows in task.splits.items():
        for answer, labels in zip(rows["answer"][:], arrays[f"{split}_labels"], strict=True):
            found = task.answers[answer]
            assert found.labels == tuple(np.flatnonzero(labels))
            assert found.text == (" + ".join(task.labels[i] for i in found.labels) or "clear")
    assert 0 < task.candidates < len(task.answers)


def test_chest_matrix_of_something_else_than_0_and_1(load, npz_arrays, save_npz):
    arrays = npz_arrays(classes=14, multi_label=True)
    arrays["val_labels"][5, 2] = 3
    save_npz(arrays, "chestmnist.npz")
    with pytest.raises(VitaskError, match=r"chestmnist\.npz: 'val_labels', row 5: 3 is neither 0 nor 1"):
        load("chest")


def test_texts_fit_medmnists_own_table():
    flags = {flag for flag, info in INFO.items() if "3d" not in flag}
    assert set(MODALITIES) == flags
    assert len(set(MODALITIES.values())) == 12
    assert set(LABELS) == flags
    for flag in flags:
        raw, shipped = INFO[flag]["label"].values(), shipped_labels(flag)
        readable = [shipped[text].text if text in shipped else text for text in raw]
        assert set(shipped) <= set(raw)
        assert not any(mark in text for text in readable for mark in ",()")


def test_second_load_reads_the_cache(load, npz_arrays, save_npz, monkeypatch):
    save_npz(npz_arrays())
    first = load()
    monkeypatch.setattr("vitask.data.sources.medmnist.stream_rows", None)
    again = load()
    assert again.fingerprint == first.fingerprint
    assert again.splits["test"][7]["image"].tobytes() == first.splits["test"][7]["image"].tobytes()


def test_one_pixel_or_one_label_or_one_text_changes_the_fingerprint(load, npz_arrays, save_npz):
    arrays = npz_arrays()
    save_npz(arrays)
    prints = [load().fingerprint, load(label_texts=["healthy", "pneumonia"]).fingerprint]
    arrays["test_images"][3, 5, 5] ^= 1
    save_npz(arrays)
    changed = load()
    prints.append(changed.fingerprint)
    assert np.asarray(changed.splits["test"][3]["image"])[5, 5] == arrays["test_images"][3, 5, 5]
    arrays["train_labels"][4, 0] ^= 1
    save_npz(arrays)
    prints.append(load().fingerprint)
    assert len(set(prints)) == 4


def test_interrupted_conversion_leaves_no_half_cache(load, npz_arrays, save_npz, monkeypatch, tmp_path):
    save_npz(npz_arrays())

    def stops(path, key):
        yield np.zeros((28, 28), np.uint8)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vitask.data.sources.medmnist.stream_rows", stops)
        with pytest.raises(KeyboardInterrupt):
            load()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert len(load().splits["train"]) == 30


def test_names(load):
    with pytest.raises(UsageError, match=r"'pneumona' is no 2D MedMNIST set.*Did you mean 'pneumoniamnist'"):
        load("pneumona")
    with pytest.raises(UsageError, match="has no size 32; choose from 28, 64, 128, 224"):
        load(size=32)


def test_missing_file_says_how_to_get_it(load, tmp_path):
    with pytest.raises(VitaskError) as error:
        load(size=64)
    for part in (f"{tmp_path / 'pneumoniamnist_64.npz'}: no such file", "data.download=true", "python -m medmnist"):
        assert part in str(error.value)


def test_download(load, npz_arrays, save_npz, monkeypatch, tmp_path):
    source = save_npz(npz_arrays(), "elsewhere.npz")

    def fetch(url, root, filename, md5):
        assert (url, md5) == (INFO["pneumoniamnist"]["url_64"], INFO["pneumoniamnist"]["MD5_64"])
        (tmp_path / filename).write_bytes(source.read_bytes())

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fetch)
    with pytest.raises(VitaskError, match=r"'train_images' is uint8 of \(30, 28, 28\), not uint8 of \(N, 64, 64\)"):
        load(size=64, download=True)
    assert (tmp_path / "pneumoniamnist_64.npz").is_file()


def test_download_offline_fails_in_one_line(load, monkeypatch, tmp_path):
    def fetch(url, root, filename, md5):
        (tmp_path / filename).write_bytes(b"half")
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fetch)
    with pytest.raises(VitaskError, match=r"pneumoniamnist\.npz: download of https?://\S+ failed: .*no route") as error:
        load(download=True)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train_images", np.zeros((30, 28, 28), np.float32), "'train_images' is float32"),
        ("train_images", np.zeros((30, 28, 28, 3), np.uint8), r"not uint8 of \(N, 28, 28\)"),
        ("val_labels", np.zeros((16, 1), np.float64), "'val_labels' is float64"),
        ("val_labels", np.zeros((15, 1), np.uint8), r"'val_labels' is uint8 of \(15, 1\), not integers of \(16, 1\)"),
        ("test_labels", np.full((20, 1), 9, np.uint8), r"split 'test', row 0: label 9 is outside 0\.\.1"),
        ("val_labels", np.zeros((16, 1), np.uint8), "split 'val' has no image of 'pneumonia'"),
        ("test_images", np.array([None] * 20), "'test_images' holds pickled Python objects"),
        ("val_images", None, "has no array 'val_images'; it holds train_images"),
    ],
)
def test_bad_arrays_name_the_file(load, npz_arrays, save_npz, key, value, message):
    arrays = npz_arrays() | {key: value}
    path = save_npz({key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(VitaskError, match=message) as error:
        load()
    assert str(error.value).startswith(str(path))


def test_empty_split(load, npz_arrays, save_npz):
    empty = {"test_images": np.zeros((0, 28, 28), np.uint8), "test_labels": np.zeros((0, 1), np.uint8)}
    save_npz(npz_arrays() | empty)
    with pytest.raises(VitaskError, match="split 'test' is missing or has no images"):
        load()
