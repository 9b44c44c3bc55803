"""The paper's study in small: 12 data sets of 70 classes, one joint TSM, both stages, one row of figures a set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitask.config.build import build_task
from vitask.config.compose import compose_config

SMALL = (
    "tsm.optim.epochs=1",
    "optim.epochs=1",
    "optim.batch_size=16",
    "optim.sampling.one_set_a_step=true",
    "logger.every=5",
    "launch.device=cpu",
)


@pytest.fixture
def root_224(tmp_path) -> Path:
    """MedMNIST files of 224 pixels: one image of every class in every split, a patch of its own on grey noise."""
    from medmnist import INFO

    rng = np.random.default_rng(0)
    for name, info in INFO.items():
        if "3d" in name:
            continue
        arrays, classes = {}, len(info["label"])
        for split in ("train", "val", "test"):
            shape = (classes, 224, 224, 3) if info["n_channels"] == 3 else (classes, 224, 224)
            images = rng.integers(100, size=shape, dtype=np.uint8)
            for number, image in enumerate(images):
                image[16 * number : 16 * number + 16] = 255
            labels = np.arange(classes, dtype=np.uint8)[:, None]
            if info["task"].startswith("multi-label"):
                labels = np.eye(classes, dtype=np.uint8)
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
        np.savez(tmp_path / f"{name}_224.npz", **arrays)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twelve_sets_run_as_one(medmnist_root, cli, tmp_path):
    run = run_all_stages(medmnist_root, 28, cli, tmp_path, "objective.csa=1")
    environment = json.loads((run / "environment.json").read_text())
    assert len(environment["labels"]) == 70
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rates = [row["without_negative"] for row in rows if "without_negative" in row]
    assert rates
    assert max(rates) < 0.2, "a step of one set holds an image with another answer for nearly every sample"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twelve_sets_of_224_pixels_run_as_one(root_224, cli, tmp_path):
    run = run_all_stages(root_224, 224, cli, tmp_path)
    data = compose_config("train", ["data=medmnist12", f"data.root={root_224}", "data.size=224"]).data
    task = build_task(data, 0, f"{tmp_path}/cache")
    assert json.loads((run / "environment.json").read_text())["data"]["fingerprint"] == task.fingerprint
    for member in task.members:
        assert list(member.audit.sizes) == [(224, 224)]
        for number, row in enumerate(member.splits["test"]):
            pixels = np.asarray(row["image"])
            assert pixels[16 * number : 16 * number + 16].min() == 255
            assert np.delete(pixels, np.s_[16 * number : 16 * number + 16], axis=0).max() < 100
            assert member.answers[row["answer"]].labels == (number,)


def run_all_stages(root: Path, size: int, cli, tmp_path: Path, *further: str) -> Path:
    """Train the joint TSM, stage 1 and stage 2, evaluate, and check that there is a row a set; return the run."""
    overrides = ["data=medmnist12", f"data.root={root}", f"data.size={size}"]
    overrides += [f"out={tmp_path}/runs", f"cache={tmp_path}/cache"]
    ended = cli("train", "stage=crt", *overrides, *SMALL, *further)
    assert ended.code == 0, ended
    (run,) = (tmp_path / "runs/medmnist12").glob("crt-*")
    ended = cli("evaluate", f"run={run}", "exemplar=on", "generate=false")
    assert ended.code == 0, ended
    table = [line.split("|")[1].strip() for line in ended.out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 12 + 1
    assert table[-1] == "mean"
    sets = json.loads((run / "eval/test-on/metrics.json").read_text())["sets"]
    assert {name for name, each in sets.items() if "label_accuracy" in each} == {"chestmnist"}
    assert {name for name, each in sets.items() if "kappa" in each} == {"retinamnist"}
    assert sum(len(each["labels"]) for each in sets.values()) == 92
    return run
