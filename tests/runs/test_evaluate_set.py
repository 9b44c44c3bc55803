"""What one evaluation says of a data set, on splits that figures break at, and what is read back from its files."""

from __future__ import annotations

import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitask.data.answers import Answer
from vitask.reporting.comparison import read_answers
from vitask.runs.evaluate_set import SetEvaluation

pytestmark = pytest.mark.filterwarnings("error")

FLAT = {
    *("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auc", "average_precision", "log_likelihood"),
    *("brier", "ece"),
}
COLOURS = ("red", "green", "blue")
SINGLE = tuple(Answer(text, (place,)) for place, text in enumerate(COLOURS))
SETS = (Answer("nothing", ()), Answer("red", (0,)), Answer("red, blue", (0, 2)), Answer("green", (1,)))


def task(truth, *, multi_label: bool = False, ordinal: bool = False, train=(0, 1, 1, 2)) -> SimpleNamespace:
    """What an evaluation needs of a task: index of the answer of each sample."""
    splits = {
        name: {"answer": list(rows), "id": [f"{name}/{number}" for number in range(len(rows))]}
        for name, rows in {"train": train, "test": truth}.items()
    }
    answers = SETS if multi_label else SINGLE
    return SimpleNamespace(
        labels=COLOURS,
        answers=answers,
        splits=splits,
        multi_label=multi_label,
        ordinal=ordinal,
        candidates=len(answers),
    )


def evaluation(made: SimpleNamespace, seed: int = 0, *, vlm: bool = True, texts=None) -> SetEvaluation:
    generator = torch.Generator().manual_seed(seed)
    samples = len(made.splits["test"]["answer"])
    logits = torch.randn(samples, 3, generator=generator)
    tsm = logits.sigmoid() if made.multi_label else logits.softmax(-1)
    likelihoods = torch.randn(samples, len(made.answers), generator=generator) if vlm else None
    candidates = [(answer.text, answer.labels) for answer in made.answers] if vlm else ()
    return SetEvaluation(made, "test", tsm, candidates, likelihoods, texts)


@pytest.mark.parametrize("truth", [[0, 1, 2, 2, 1, 0, 0], [1, 1], [2]])
@pytest.mark.parametrize("kind", ["single", "ordinal", "several"])
@pytest.mark.parametrize("vlm", [True, False])
def test_every_figure_is_there_and_the_file_is_valid_json(truth, kind, vlm, tmp_path):
    made = task(truth, multi_label=kind == "several", ordinal=kind == "ordinal")
    flat = FLAT | {"single": set(), "ordinal": {"kappa", "mae"}, "several": {"label_accuracy"}}[kind]
    evaluation(made, vlm=vlm, texts=["red"] * len(truth) if vlm else None).write(tmp_path, {"run": "r"})
    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    for part in (found, found["tsm"], *([found["averaged"]] if vlm else [])):
        assert flat <= part.keys()
        assert part["intervals"].keys() == {"accuracy", "balanced_accuracy", "macro_f1", "auc"}
    assert found["majority"].keys() == {*("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1"), "intervals"}
    assert ("generated" in found) == vlm
    if not vlm:
        assert found["averaged"] is None
        assert {key: found[key] for key in flat} == {key: found["tsm"][key] for key in flat}
    assert found["per_class"].keys() == set(COLOURS)
    assert sum(each["count"] for each in found["reliability"]) == len(truth) * (3 if kind == "several" else 1)
    if kind == "several":
        assert {label: np.sum(table) for label, table in found["confusion_by_label"].items()} == dict.fromkeys(
            COLOURS, len(truth)
        )
        support = {label: sum(table[1]) for label, table in found["confusion_by_label"].items()}
    else:
        assert np.trace(found["confusion"]) == round(found["accuracy"] * len(truth))
        support = {label: sum(row) for label, row in zip(COLOURS, found["confusion"], strict=True)}
    assert {label: each["support"] for label, each in found["per_class"].items()} == support


def test_the_control_is_the_mean_of_both_probabilities():
    made = evaluation(task([0, 1, 2, 2, 1, 0]))
    mean = (made.tsm_probabilities.double().numpy() + made.predictions.scores) / 2
    right = mean.argmax(-1) == made.targets.numpy()
    found = made.metrics()["averaged"]
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["log_likelihood"] == pytest.approx(np.log(mean[np.arange(6), made.targets]).mean())


def test_without_a_tsm_there_are_no_controls():
    made = evaluation(task([0, 1, 2]))
    made.tsm_probabilities = None
    assert {key: made.metrics()[key] for key in ("tsm", "averaged")} == {"tsm": None, "averaged": None}


def test_a_class_that_is_absent_leaves_nan_where_nothing_can_be_said():
    found = evaluation(task([0, 1, 1, 0])).metrics()
    assert math.isnan(found["auc"])
    assert math.isnan(found["average_precision"])
    assert math.isnan(found["per_class"]["blue"]["recall"])
    assert found["intervals"]["auc"] == pytest.approx([math.nan, math.nan], nan_ok=True)
    assert math.isfinite(found["balanced_accuracy"])


@pytest.mark.parametrize("vlm", [True, False])
def test_label_sets_have_one_text_and_are_read_back(vlm, tmp_path):
    """Truth and prediction are written alike, whether the set is an answer, no label at all, or a new combination."""
    made = evaluation(task([0, 1, 2, 3, 2, 0, 1, 3], multi_label=True), vlm=vlm)
    made.write(tmp_path, {})
    back = read_answers(tmp_path).predictions
    assert np.array_equal(back.truth, made.predictions.truth)
    assert np.array_equal(back.chosen, made.predictions.chosen)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    accuracy = np.mean([row["truth"] == row["prediction"] for row in rows])
    assert accuracy == pytest.approx(made.metrics()["accuracy"])
    assert rows[0]["truth"] == "nothing"


def test_generated_answers_are_scored_over_the_label_set():
    found = evaluation(task([0, 1, 2, 2]), texts=["red", "It is green.", "a cat", "blue"]).metrics()["generated"]
    expected = {"accuracy": 3 / 4, "macro_f1": (1 + 1 + 2 / 3) / 3, "invalid_rate": 1 / 4}
    assert {key: found[key] for key in expected} == pytest.approx(expected)
