import numpy as np
import pytest
from PIL import Image

from vitask.data import load_table_task
from vitask.data.audit import Audit, audit, audit_notes


def test_counts_from_the_definition():
    pixels = {split: np.array(list(text)) for split, text in (("train", "aabc"), ("val", "ad"), ("test", "dbe"))}
    labels = {"train": [[0], [0], [1], [1]], "val": [[1], [0]], "test": [[0], [1], [1]]}
    found = audit(pixels, labels, np.array([(4, 4), (2, 3), (2, 3)]), skipped=2)
    assert found.across == {("val", "train"): 1, ("test", "train"): 1, ("test", "val"): 1}
    assert found.within == {"train": 1}
    assert found.contradictions == 1
    assert (found.sizes, found.skipped) == ({(2, 3): 2, (4, 4): 1}, 2)
    notes = audit_notes(found, {split: len(rows) for split, rows in pixels.items()})
    assert notes["duplicate images"].startswith("1 of 2 val images are in train too; 1 of 3 test images")
    assert notes["corrupt images"] == "2 images that do not decode left out"


def test_nothing_to_say():
    assert audit_notes(Audit(within={"train": 3}), {}) == {}


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_test_image_that_is_in_train_is_a_note_whatever_its_format(eight, tmp_path, suffix):
    path = eight(image=[*(f"img/{i}.png" for i in range(7)), f"img/7{suffix}"])
    Image.open(path.parent / "img/1.png").save(path.parent / f"img/7{suffix}")
    task = load_table_task(path, cache_dir=tmp_path / "cache")
    assert task.notes == {"duplicate images": "1 of 2 test images are in train too"}
    assert task.audit.across == {("test", "train"): 1}
    assert task.audit.contradictions == 0


def test_skipped_images_are_counted_in_the_notes(eight, tmp_path):
    path = eight()
    (path.parent / "img/2.png").write_bytes(b"no image")
    task = load_table_task(path, cache_dir=tmp_path / "cache", skip_corrupt=True)
    assert task.notes == {"corrupt images": "1 image that does not decode left out"}
    assert task.splits["train"]["id"][:] == ["img/0.png", "img/1.png", "img/3.png"]
    assert task.splits["test"]["answer"][:] == [1, 0]
