"""Several labels an image, through every term: MedMNIST's chest set with generated pixels."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import vitask
from vitask.export import plain


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in {"train": 24, "val": 14, "test": 14}.items():
        labels = (rng.random((count, 14)) < 0.1).astype(np.uint8)
        labels[:14] |= np.eye(14, dtype=np.uint8)[:count]
        arrays |= {
            f"{split}_images": rng.integers(256, size=(count, 28, 28), dtype=np.uint8),
            f"{split}_labels": labels,
        }
    folder = tmp_path_factory.mktemp("medmnist")
    np.savez(folder / "chestmnist.npz", **arrays)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["null", "5"])
def test_every_term_trains_and_the_label_sets_are_scored(chest, cli, tmp_path, limit):
    ended = cli(
        "train",
        "stage=crt",
        "data=medmnist",
        "data.name=chestmnist",
        f"data.root={chest}",
        f"cache={tmp_path}/cache",
        f"out={tmp_path}/runs",
        "tsm.optim.epochs=1",
        "optim.epochs=1",
        "logger.every=1",
        "objective.ranking=1",
        "objective.csa=1",
        "objective.image_ranking=1",
        f"objective.closed_set.limit={limit}",
        "launch.device=cpu",
    )
    assert ended.code == 0, ended
    (run,) = (tmp_path / "runs/chestmnist").glob("crt-*")
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for term in ("vanilla", "ep", "rda", "crt", "ranking", "csa", "image_ranking"):
        assert all(np.isfinite(row[term]) for row in rows if term in row)
    assert rows[0]["ranking"] > 0
    ended = cli("evaluate", f"run={run}", "generate=false")
    assert ended.code == 0, ended
    metrics = json.loads((run / "eval/test-off/metrics.json").read_text())
    assert metrics["samples"] == 14
    assert 0 <= metrics["macro_f1"] <= 1


def test_the_code_of_a_card_gives_the_likeliest_set_and_the_probability_of_each_label(monkeypatch):
    """The likeliest set leaves out the likeliest label."""
    sets = {0.4: ["a"], 0.3: ["b", "c"], 0.2: ["b"], 0.1: []}
    answers = [{"labels": labels, "tokens": [probability]} for probability, labels in sets.items()]
    question = {"instruction": "Say it", "labels": ["a", "b", "c"], "answers": answers}
    monkeypatch.setattr(plain, "read_prompt", lambda *arguments: None)
    monkeypatch.setattr(plain, "token_log_likelihoods", lambda model, prompt, tokens: torch.tensor(tokens).log())
    labels, probabilities = plain.answer_in_labels(None, None, question, None)
    assert labels == ["a"]
    assert probabilities == pytest.approx({"a": 0.4, "b": 0.5, "c": 0.3})


@pytest.mark.slow
def test_predict_and_an_exported_model_give_the_set_that_python_is_told(chest, cli, tmp_path):
    data = ["data=medmnist", "data.name=chestmnist", f"data.root={chest}", f"cache={tmp_path}/cache"]
    options = ["optim.epochs=1", "launch.device=cpu", f"out={tmp_path}/runs"]
    assert cli("train", "stage=vanilla", *data, *options).code == 0
    (run,) = (tmp_path / "runs/chestmnist").glob("vanilla-*")
    rng = np.random.default_rng(1)
    images = [Image.fromarray(rng.integers(256, size=(28, 28), dtype=np.uint8)).convert("RGB") for _ in range(4)]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    wanted = vitask.Classifier.from_pretrained(run, "cpu").predict(images)
    lines = cli("predict", f"run={run}", *(tmp_path / f"{number}.png" for number in range(4))).out.splitlines()
    assert all(f".png: {one.label} (" in line for line, one in zip(lines[-4:], wanted, strict=True))
    ended = cli("export", f"run={run}", f"out={tmp_path}/merged", "samples=2")
    assert ended.code == 0, ended
    (question,) = json.loads((tmp_path / "merged/labels.json").read_text())["sets"]
    model, processor = plain.load_merged(tmp_path / "merged")
    for image, one in zip(images, wanted, strict=True):
        labels, probabilities = plain.answer_in_labels(model, processor, question, image)
        assert (tuple(labels), probabilities) == (one.labels, pytest.approx(one.probabilities, abs=1e-5))
    card = (tmp_path / "merged/README.md").read_text()
    assert f"give an image one of {len(question['answers'])} sets of the 14 labels of chestmnist" in card
    assert "print(answer_in_labels(model, processor, question, image))" in card


@pytest.mark.slow
def test_a_linear_head_gives_each_label_a_probability_of_its_own(chest, cli, tmp_path):
    data = ["data=medmnist", "data.name=chestmnist", f"data.root={chest}", f"cache={tmp_path}/cache"]
    ended = cli("train", "stage=head", *data, f"out={tmp_path}/runs", "optim.epochs=1", "launch.device=cpu")
    assert ended.code == 0, ended
    (run,) = (tmp_path / "runs/chestmnist").glob("head-*")
    assert cli("evaluate", f"run={run}").code == 0
    with (run / "eval/test-off/predictions.csv").open(newline="") as file:
        rows = np.array([row[-14:] for row in csv.reader(file)][1:], dtype=float)
    assert rows.shape == (14, 14)
    assert ((rows > 0) & (rows < 1)).all()
    assert np.abs(rows.sum(1) - 1).min() > 1e-3
    metrics = json.loads((run / "eval/test-off/metrics.json").read_text())
    assert 0 <= metrics["label_accuracy"] <= 1
