"""`vitask evaluate` before tuning, with ranked images, with contrast: against loops over plain Hugging Face models."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitask.data import DatasetNegatives
from vitask.runs.evaluate import mean_metrics

from .hugging_face import PlainVLM

LABELS = ("bar", "dot", "row")
ROWS = [(label, number) for label in LABELS for number in range(4)]


@pytest.fixture(scope="module")
def runs(pipeline, tmp_path_factory) -> Path:
    """The pipeline's runs, not evaluated yet."""
    out = tmp_path_factory.mktemp("controls") / "shapes"
    shutil.copytree(pipeline.out / "shapes", out, ignore=shutil.ignore_patterns("eval"))
    return out


@pytest.fixture(scope="module")
def crt(runs) -> Path:
    (run,) = runs.glob("crt-*")
    return run


@pytest.fixture(scope="module")
def images(shapes) -> list[Image.Image]:
    """The test split, in order."""
    return [Image.open(shapes / "test" / label / f"{number}.png") for label, number in ROWS]


@pytest.fixture(scope="module")
def instruction(crt) -> str:
    (member,) = json.loads((crt / "model/vitask.json").read_text())["members"]
    return member["instruction"]


def ask(run: Path, *options: str) -> dict:
    """Evaluate a run in one mode and return what it wrote."""
    from tests.conftest import call

    before = set((run / "eval").glob("*/metrics.json"))
    ended = call(["evaluate", f"run={run}", "overwrite=true", *options])
    assert ended.code == 0, ended
    written = [p for p in (run / "eval").glob("*/metrics.json") if p not in before]
    return {"out": ended.out, "folders": {path.parent.name for path in written}}


def metrics(run: Path, folder: str) -> dict:
    return json.loads((run / "eval" / folder / "metrics.json").read_text())


def probabilities(run: Path, folder: str) -> np.ndarray:
    with (run / "eval" / folder / "predictions.csv").open(newline="") as file:
        return np.array([[float(row[f"p({label})"]) for label in LABELS] for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def untuned(crt) -> dict:
    return ask(crt, "tuned=false", "ranking=true", "generate=false")


@pytest.fixture(scope="module")
def ranked(crt) -> dict:
    return ask(crt, "exemplar=off", "ranking=true", "generate=false")


@pytest.fixture(scope="module")
def contrasted(crt) -> dict:
    return ask(crt, "contrast=1.5")


def test_before_tuning_it_is_the_model_that_was_loaded(crt, untuned, images, instruction):
    assert untuned["folders"] == {"test-untuned"}
    plain = PlainVLM(None)
    expected = torch.stack([plain.scores(image, instruction, LABELS).softmax(-1) for image in images])
    np.testing.assert_allclose(probabilities(crt, "test-untuned"), expected.numpy(), atol=2e-5)
    assert metrics(crt, "test-untuned")["mode"] == "untuned"
    assert "| VLM before tuning " in untuned["out"]
    assert re.search("^VLM before tuning .*100%", untuned["out"], re.MULTILINE), "the progress in the table's words"


def test_a_tower_that_was_tuned_is_off_too(small, runs, crt, untuned, tmp_path, cli):
    options = ["stage=vanilla", "data.label_noise=0.25", "vlm.train_tower=true", "vlm.train_projector=true"]
    assert cli("train", *small, *options, f"out={tmp_path}").code == 0
    (run,) = (tmp_path / "shapes").glob("vanilla-*")
    ask(run, "tuned=false", "generate=false")
    ask(run, "generate=false")
    np.testing.assert_allclose(probabilities(run, "test-untuned"), probabilities(crt, "test-untuned"), atol=2e-6)
    assert np.abs(probabilities(run, "test-off") - probabilities(run, "test-untuned")).max() > 1e-2


@pytest.mark.parametrize(("state", "folder"), [("untuned", "test-untuned"), ("tuned", "test-off")])
def test_ranking_is_that_of_a_loop_over_single_forwards(state, folder, crt, untuned, ranked, images, instruction):
    plain = PlainVLM(crt if state == "tuned" else None)
    answers = [LABELS.index(label) for label, _ in ROWS]
    same = [0] * len(answers)
    drawn = DatasetNegatives(answers, same, seed=0).draw(0, range(len(answers)), answers, same)
    assert all(answers[i] != answers[j] for i, j in enumerate(drawn))

    def p(sample: int, image: int) -> float:
        return float(np.mean(np.exp(plain.log_p(images[image], instruction, ROWS[sample][0]))))

    found = json.loads((crt / "eval" / folder / "ranking.json").read_text())
    positive = [p(i, i) for i in range(len(ROWS))]
    negative = [p(i, j) for i, j in enumerate(drawn)]
    assert found["positive"] == pytest.approx(positive, abs=1e-5)
    assert found["negative"] == pytest.approx(negative, abs=1e-5)
    figures = metrics(crt, folder)["ranking"]
    assert figures["pairs_right"] == sum(a > b for a, b in zip(positive, negative, strict=True)) / len(ROWS)
    assert figures["auc"] == pytest.approx(sum(a > b for a in positive for b in negative) / len(ROWS) ** 2, abs=1e-12)
    assert figures["gap"] == pytest.approx(np.mean(positive) - np.mean(negative), abs=1e-5)


def test_ranking_is_printed_in_a_table_of_its_own(ranked):
    line = next(line for line in ranked["out"].splitlines() if line.startswith("| pairs of images"))
    assert [cell.strip() for cell in line.split("|")[2:4]] == ["ranked right", "AUC"]


def test_with_both_modes_images_are_ranked_without_the_exemplar_alone(own_pipeline):
    run = own_pipeline.run("ep")
    ask(run, "ranking=true", "generate=false")
    assert "ranking" in metrics(run, "test-off")
    assert "ranking" not in metrics(run, "test-on")
    assert not (run / "eval/test-on/ranking.json").exists()


def test_contrast_is_that_of_a_loop_over_single_forwards(crt, contrasted, images, instruction):
    assert contrasted["folders"] == {"test-off_contrast-1.5"}
    plain, grey = PlainVLM(crt), Image.new("RGB", (8, 8), (128, 128, 128))
    blank = plain.scores(grey, instruction, LABELS)
    expected = torch.stack([(2.5 * plain.scores(i, instruction, LABELS) - 1.5 * blank).softmax(-1) for i in images])
    np.testing.assert_allclose(probabilities(crt, "test-off_contrast-1.5"), expected.numpy(), atol=2e-4)
    found = metrics(crt, "test-off_contrast-1.5")
    assert found["contrast"] == 1.5
    assert "generated" not in found
    assert "contrastive decoding: 2.5 log p(answer | image)" in contrasted["out"]


def test_contrast_lies_beside_what_is_not_contrasted(crt, ranked, contrasted):
    plain, other = probabilities(crt, "test-off"), probabilities(crt, "test-off_contrast-1.5")
    assert np.abs(plain - other).max() > 1e-2
    ask(crt, "contrast=0", "exemplar=off", "generate=false")
    np.testing.assert_array_equal(probabilities(crt, "test-off"), plain)


def test_what_is_asked_for_later_is_added_to_what_is_there(own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    parts = {"generated", "ranking"}
    for options, there in (
        (["ranking=true", "generate=false"], {"ranking"}),
        (["generate=true"], parts),
        (["ranking=true", "generate=false"], parts),
        (["overwrite=true", "generate=false"], set()),
    ):
        assert cli("evaluate", f"run={run}", *options).code == 0
        assert parts & metrics(run, "test-off").keys() == there, options


def test_what_is_there_is_not_computed_again(crt, untuned, cli, monkeypatch):
    import vitask.runs.evaluate as module

    monkeypatch.setattr(module, "Evaluation", None)
    assert "| VLM before tuning " in cli("evaluate", f"run={crt}", "tuned=false", "generate=false").out


@pytest.mark.parametrize(
    ("stage", "options", "text"),
    [
        ("tsm", ["tuned=false"], "tuned=false: "),
        ("tsm", ["ranking=true"], "is the run of a TSM"),
        ("crt", ["exemplar=on", "ranking=true"], "ranking=true: this is for the VLM without exemplar"),
        ("crt", ["exemplar=on", "contrast=1"], "contrast: this is for the VLM without exemplar"),
        ("crt", ["exemplar=on", "tuned=false"], "tuned=false: this is for the VLM without exemplar"),
        ("crt", ["ranking=true", "contrast=1"], "one at a time"),
        ("crt", ["contrast=-1"], "contrast: -1.0 is out of range; expected at least 0"),
    ],
)
def test_what_does_not_fit_is_a_wrong_request(stage, options, text, runs, cli):
    (run,) = runs.glob(f"{stage}-*")
    assert cli("evaluate", f"run={run}", *options).refuses(2, text)


def test_the_ranking_of_several_data_sets_is_their_mean():
    sets = [
        {"samples": 2, "ranking": {"pairs": 2, "pairs_right": 1.0, "auc": 0.5, "gap": 0.25}},
        {"samples": 4, "ranking": {"pairs": 4, "pairs_right": 0.5, "auc": 1.0, "gap": 0.75}},
    ]
    assert mean_metrics(sets)["ranking"] == {"pairs_right": 0.75, "auc": 0.75, "gap": 0.5}
