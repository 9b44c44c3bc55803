import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

from vitask.data import load_digits_task


def test_images_labels_and_ids_are_scikit_learns():
    raw, task = load_digits(), load_digits_task()
    assert task.modality == "handwritten digit"
    seen = set()
    for split in task.splits.values():
        for row in split:
            index = int(row["id"].removeprefix("digits-"))
            seen.add(index)
            assert row["image"].mode == "L"
            assert np.array_equal(np.asarray(row["image"]), np.rint(raw.images[index] * 255 / 16))
            assert row["answer"] == raw.target[index]
    assert seen == set(range(1797))


def test_split_is_stratified_and_always_the_same():
    task, again = load_digits_task(), load_digits_task()
    assert [len(split) for split in task.splits.values()] == [719, 539, 539]
    for split in task.splits.values():
        counts = np.bincount(split["answer"][:])
        assert counts.max() - counts.min() <= 5
    assert task.splits["test"]["id"][:] == again.splits["test"]["id"][:]
    assert task.fingerprint == again.fingerprint


def test_importing_the_room_is_light():
    code = (
        "import sys, vitask.data; "
        "print({'torch', 'transformers', 'timm', 'datasets', 'sklearn', 'medmnist', 'PIL'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
