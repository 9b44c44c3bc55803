"""Small tasks and files: MedMNIST's own keys, dtypes and shapes with generated pixels."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from vitask.data import TaskData, make_task

SIZES = {"train": 30, "val": 16, "test": 20}


def toy_split(prefix: str, count: int) -> datasets.Dataset:
    features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()})
    image = Image.new("L", (2, 2))
    rows = {"id": [f"{prefix}-{row}" for row in range(count)], "image": [image] * count}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def toy():
    """Build a task from the targets of its splits; val and test get the same targets as train unless given."""

    def build(train, val=None, test=None, labels=("red", "green", "blue"), **options) -> TaskData:
        targets = {"train": train, "val": train if val is None else val, "test": train if test is None else test}
        targets = {split: [row if isinstance(row, list) else [row] for row in rows] for split, rows in targets.items()}
        splits = {split: toy_split(split, len(rows)) for split, rows in targets.items()}
        options = {"content": "pixels", "origin": "toy", "modality": "dot", **options}
        return make_task("toy", labels=labels, splits=splits, targets=targets, **options)

    return build


@pytest.fixture
def npz_arrays():
    """Arrays as MedMNIST stores them; ``classes=14`` with ``multi_label`` gives ChestMNIST's 0/1 matrix."""

    def build(classes=2, size=28, rgb=False, multi_label=False, seed=0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        arrays = {}
        for split, count in SIZES.items():
            shape = (count, size, size, 3) if rgb else (count, size, size)
            arrays[f"{split}_images"] = rng.integers(256, size=shape, dtype=np.uint8)
            labels = (np.arange(count) % classes).astype(np.uint8)[:, None]
            if multi_label:
                labels = (rng.random((count, classes)) < 0.1).astype(np.uint8)
                labels[:classes] |= np.eye(classes, dtype=np.uint8)[:count]
                labels[-1] = 0
            arrays[f"{split}_labels"] = labels
        return arrays

    return build


@pytest.fixture
def save_npz(tmp_path: Path):
    def save(arrays: dict[str, np.ndarray], name: str = "pneumoniamnist.npz") -> Path:
        np.savez_compressed(tmp_path / name, **arrays)
        return tmp_path / name

    return save
