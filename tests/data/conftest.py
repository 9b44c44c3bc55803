"""Small tasks and files: MedMNIST's own keys, dtypes and shapes with generated pixels."""

from __future__ import annotations

import csv
import json
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


CLASSES = ("rust", "mould")
PARTS = ("train", "train", "train", "train", "val", "val", "test", "test")


@pytest.fixture
def eight(tmp_path: Path):
    """Write eight small images, each different, and a table of them; columns may be replaced, added or dropped (None).

    ``eight(label=[...])`` returns the table's path, a CSV unless ``name`` says otherwise.
    """

    def write(name: str = "labels.csv", folder: str = "set", **columns) -> Path:
        root = tmp_path / folder
        (root / "img").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(8):
            pixels = rng.integers(256, size=(6, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"img/{i}.png")
        whole = {
            "image": [f"img/{i}.png" for i in range(8)],
            "label": [CLASSES[i % 2] for i in range(8)],
            "split": list(PARTS),
            **columns,
        }
        whole = {key: list(values) for key, values in whole.items() if values is not None}
        rows = [dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True)]
        path = root / name
        if path.suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(whole))
                writer.writeheader()
                writer.writerows(rows)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            datasets.Dataset.from_list(rows).to_parquet(str(path))
        return path

    return write
