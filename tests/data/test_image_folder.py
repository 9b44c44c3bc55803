import numpy as np
import pytest
from PIL import Image

from vitask.data import load_image_folder_task
from vitask.errors import UsageError, VitaskError


@pytest.fixture
def paint(tmp_path):
    """Write small images of random pixels, each different, under ``root/<folder>``."""
    rng = np.random.default_rng(0)

    def paint(folder, count=4, suffix="png", mode="RGB"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(256, size=(12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(tmp_path / folder / f"{i}.{suffix}")

    return paint


@pytest.fixture
def split_root(paint, tmp_path):
    for split in ("train", "valid", "test"):
        paint(f"{split}/leaf_rust")
        paint(f"{split}/healthy", suffix="jpg")
    return tmp_path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def load(root, **options):
    return load_image_folder_task(root, "leaf", **options)


def test_given_splits(split_root):
    task = load(split_root)
    assert (task.name, task.modality) == (split_root.name, "leaf")
    assert task.labels == ("healthy", "leaf rust")
    row = task.splits["val"][5]
    assert (row["id"], row["answer"]) == ("valid/leaf_rust/1.png", 1)
    assert row["image"].mode == "RGB"
    assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(split_root / row["id"])))
    assert [len(split) for split in task.splits.values()] == [8, 8, 8]


def test_split_made_here_is_fixed_and_disjoint(paint, tmp_path):
    paint("a", 10, mode="L")
    paint("b", 20, mode="L")
    task, again, other = load(tmp_path), load(tmp_path), load(tmp_path, split_seed=1)
    ids = {split: rows["id"][:] for split, rows in task.splits.items()}
    assert [np.bincount(rows["answer"][:]).tolist() for rows in task.splits.values()] == [[6, 12], [2, 4], [2, 4]]
    assert len({i for split in ids.values() for i in split}) == 30
    assert ids == {split: rows["id"][:] for split, rows in again.splits.items()}
    assert ids != {split: rows["id"][:] for split, rows in other.splits.items()}
    assert task.splits["train"][0]["image"].mode == "L"
    assert task.fingerprint == again.fingerprint != other.fingerprint


def test_own_label_texts(split_root):
    assert load(split_root, label_texts={"leaf_rust": "rust"}).labels == ("healthy", "rust")
    with pytest.raises(UsageError, match=r"no class folder 'leaf_rst'\. Did you mean 'leaf_rust'"):
        load(split_root, label_texts={"leaf_rst": "rust"})


def test_hidden_and_other_files_are_ignored(split_root):
    before = load(split_root)
    (split_root / "train/healthy/.DS_Store").write_bytes(b"x")
    (split_root / "train/healthy/._0.png").write_bytes(b"x")
    (split_root / "train/.cache").mkdir()
    (split_root / "train/healthy/notes.txt").write_text("x")
    assert load(split_root).fingerprint == before.fingerprint


def test_fingerprint_sees_pixels_names_and_texts(split_root):
    prints = [load(split_root).fingerprint, load(split_root, label_texts={"healthy": "fine"}).fingerprint]
    path = split_root / "test/leaf_rust/2.png"
    image = Image.open(path)
    image.putpixel((0, 0), tuple(value ^ 1 for value in image.getpixel((0, 0))))
    image.save(path)
    prints.append(load(split_root).fingerprint)
    path.rename(path.with_name("9.png"))
    prints.append(load(split_root).fingerprint)
    assert len(set(prints)) == 4


def test_mixed_modes_become_rgb(split_root):
    Image.new("RGBA", (4, 4)).save(split_root / "train/leaf_rust/0.png")
    Image.new("P", (4, 4)).save(split_root / "train/leaf_rust/1.png")
    assert {row["image"].mode for row in load(split_root).splits["train"]} == {"RGB"}


@pytest.mark.parametrize("name", ["train/healthy/2.jpg", "test/leaf_rust/1.png"])
@pytest.mark.parametrize("keep", [0, 100])
def test_unreadable_image_is_named(split_root, name, keep):
    path = split_root / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(VitaskError, match=f"{path}: cannot read this image"):
        load(split_root)


def test_16_bit_image_is_refused(split_root):
    path = split_root / "train/leaf_rust/3.png"
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(path)
    with pytest.raises(VitaskError, match=f"{path}: has more than 8 bits a channel"):
        load(split_root)


def test_missing_root(tmp_path):
    with pytest.raises(VitaskError, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")


def test_root_without_class_folders(tmp_path):
    with pytest.raises(VitaskError, match="has no class folders"):
        load(tmp_path)


def test_class_folder_without_image(split_root):
    (split_root / "val").mkdir()
    with pytest.raises(VitaskError, match=r"split 'val' \(val or valid or validation or dev\), found val and valid"):
        load(split_root)
    (split_root / "val").rmdir()
    (split_root / "train/mould").mkdir()
    (split_root / "train/mould/scan.dcm").write_bytes(b"x")
    with pytest.raises(VitaskError, match=r"train/mould: class folder has no image \(1 other files\)"):
        load(split_root)


def test_missing_split_folder(paint, tmp_path):
    paint("train/a")
    paint("train/b")
    with pytest.raises(VitaskError, match=r"expected one folder for split 'test' \(test or testing\), found none"):
        load(tmp_path)


@pytest.mark.parametrize(("training", "testing"), [("Training", "Testing"), ("train", "Test"), ("TRAIN", "TESTING")])
def test_split_folders_by_other_names_are_no_classes(paint, tmp_path, training, testing):
    """Published sets often have no validation images; they are taken out of train, and test stays what it is."""
    for kind in ("glioma", "pituitary"):
        paint(f"{training}/{kind}", 10)
        paint(f"{testing}/{kind}", 3)
    task = load(tmp_path)
    assert task.labels == ("glioma", "pituitary")
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 16, "val": 4, "test": 6}
    assert {name.split("/")[0] for name in task.splits["test"]["id"]} == {testing}
    assert "taken out here" in task.notes["split"]


def test_class_folders_that_differ_between_splits(split_root, paint):
    paint("test/mould")
    with pytest.raises(VitaskError, match="train and test have different class folders: mould"):
        load(split_root)


def test_class_too_small_to_split_names_the_folder(paint, tmp_path):
    paint("a", 10)
    paint("b", 2)
    with pytest.raises(VitaskError, match=f"{tmp_path}: class 'b' has 2 images"):
        load(tmp_path)
