"""Runs that answer in words, compared, reported and exported."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

import vitask
from tests.reporting.test_page import Reader
from vitask.config.compose import compose_config
from vitask.data import load_instruction_task
from vitask.export import run as export_run

from ..conftest import call
from .test_compare import table
from .test_export import card, front_matter, program, said_by_the_card

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ASKED = "What color is it?"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def evaluated(word_runs, tmp_path_factory) -> dict[str, Path]:
    """Copies of the runs, vanilla and crt evaluated; tests leave them as they are."""
    out = tmp_path_factory.mktemp("evaluated") / "runs"
    shutil.copytree(word_runs["out"], out, ignore=shutil.ignore_patterns("eval"))
    runs = {name: out / "questions" / path.name for name, path in word_runs.items() if name != "out"}
    for name in ("vanilla", "crt"):
        assert call(["evaluate", f"run={runs[name]}"]).code == 0
    return {**runs, "out": out}


@pytest.fixture(scope="module")
def exported(evaluated, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for form in ("adapter", "merged", "bundle"):
        options = [f"to={form}", f"out={folder / form}", "samples=5"]
        ended = call(["export", f"run={evaluated['crt']}", *options])
        assert ended.code == 0, ended
        count = 10 if form == "bundle" else 5
        assert f"{count} of {count} greedy answers are the same" in ended.out
        assert "with 5 questions of the test split of questions" in ended.out
    return {form: folder / form for form in ("adapter", "merged", "bundle")}


@pytest.fixture
def task(questions, tmp_path):
    return load_instruction_task(questions, cache_dir=tmp_path)


def rows_of(run: Path, mode: str = "off") -> list[dict[str, str]]:
    with (run / "eval" / f"test-{mode}" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_runs_are_compared_question_by_question(evaluated, cli, monkeypatch):
    monkeypatch.setattr("vitask.runs.evaluate.Evaluation", None)
    ended = cli("compare", evaluated["vanilla"], evaluated["crt"])
    assert ended.code == 0, ended
    found = {row[0]: row[1:] for row in table(ended.out)[2:]}
    assert list(found) == ["exact match", "token F1", "ranked first", "log-likelihood a token"]
    one, other = (rows_of(evaluated[name]) for name in ("vanilla", "crt"))
    images = len({row["image"] for row in one})
    assert images < len(one)
    for title, column in (("exact match", "exact_match"), ("token F1", "token_f1")):
        means = [np.mean([float(row[column]) for row in rows]) for rows in (one, other)]
        assert found[title][:2] == [str(len(one)), str(images)]
        assert found[title][2:5] == [*(f"{mean:.3f}" for mean in means), f"{means[1] - means[0]:+.3f}"]
    right = [[row["text"].lower().split() == row["response"].lower().split() for row in rows] for rows in (one, other)]
    assert found["exact match"][-2:] == [
        str(sum(a and not b for a, b in zip(*right, strict=True))),
        str(sum(b and not a for a, b in zip(*right, strict=True))),
    ]
    tokens = [sum(float(row["log_likelihood"]) for row in rows) / sum(int(row["tokens"]) for row in rows)
              for rows in (one, other)]  # fmt: skip
    assert found["log-likelihood a token"][2:4] == [f"{mean:.3f}" for mean in tokens]
    perplexity = json.loads((evaluated["crt"] / "eval/test-off/metrics.json").read_text())["perplexity"]
    assert np.exp(-tokens[1]) == pytest.approx(perplexity, rel=1e-4)
    assert f"over {images} images" in ended.out


def test_an_evaluation_of_an_earlier_version_is_to_be_repeated(evaluated, cli, tmp_path):
    own = tmp_path / "runs"
    shutil.copytree(evaluated["out"], own)
    crt = own / "questions" / evaluated["crt"].name
    path = crt / "eval/test-off/predictions.csv"
    rows = rows_of(crt)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "image"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    ended = cli("compare", evaluated["vanilla"], crt)
    assert ended.refuses(1, str(path), "no column 'image'", "overwrite=true")


def test_the_report_shows_figures_and_escaped_questions(evaluated, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(evaluated["out"], runs)
    for path in runs.glob("*/*/eval/*/*"):
        path.write_text(path.read_text().replace(ASKED, HOSTILE))
    ended = call(["report", runs, f"out={tmp_path / 'report'}"])
    assert ended.code == 0, ended
    text = (tmp_path / "report/report.html").read_text()
    page = Reader(text)
    shown = " ".join(" ".join(page.texts).split())
    assert "<script" not in text
    assert HOSTILE in shown
    for words in ("exact match", "token F1", "ranked first", "perplexity", "commonest response", "chance", "Losses",
                  "instructions", "What the exemplar changed", "Answered wrongly", "truth:"):  # fmt: skip
        assert words in shown, words
    assert "not evaluated" not in shown, "the ep run and the encoder are what crt started from"
    assert "confusion" not in shown
    assert [each for tag, each in page.elements if tag == "img"], "the images stand beside the questions"
    with (tmp_path / "report/tables.csv").open(newline="") as file:
        figures = {(r["row"], r["mode"], r["label"], r["metric"]): r for r in csv.DictReader(file)}
    for stage, mode in (("vanilla", "off"), ("crt", "off"), ("crt", "on")):
        metrics = json.loads((evaluated[stage] / "eval" / f"test-{mode}" / "metrics.json").read_text())
        exact = figures[stage, mode, "", "exact_match"]
        free = metrics["generated"]
        expected = [free["exact_match"], *free["intervals"]["exact_match"]]
        assert [float(exact[key]) for key in ("value", "low", "high")] == expected
        assert float(figures[stage, mode, "", "perplexity"]["value"]) == metrics["perplexity"]
        asked = metrics["by_instruction"][ASKED]
        assert float(figures[stage, mode, HOSTILE, "rank_accuracy"]["value"]) == asked["rank_accuracy"]


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_the_code_of_the_card_answers_without_vitask_as_the_run_does(form, evaluated, exported, questions, tmp_path):
    image = questions.parent / "00003.png"
    said = said_by_the_card(exported[form], form, image, tmp_path)
    asked = re.search(r'answer_in_words\(model, processor, question, image, "(.*)"\)', program(exported[form]))[1]
    wanted = call(["predict", f"run={evaluated['crt']}", "exemplar=off", f"instruction={asked}", image])
    assert wanted.out.splitlines()[-1] == f"{image}: {said}"


def test_a_bundle_answers_where_it_was_moved_to(evaluated, exported, questions, tmp_path, monkeypatch, capsys):
    shutil.copytree(exported["bundle"], tmp_path / "moved")
    image = questions.parent / "00003.png"
    for exemplar in ("on", "off"):
        options = [f"exemplar={exemplar}", f"instruction={ASKED}", image]
        said = [call(["predict", f"run={folder}", *options]).out for folder in (evaluated["crt"], tmp_path / "moved")]
        assert said[0] == said[1] != ""
    code = program(exported["bundle"])
    assert "vitask.Answerer.from_pretrained(folder)" in code
    asked = json.loads(re.search(r'ask\(\["image.png"\], (".*")\)', code)[1])
    (wanted,) = vitask.Answerer.from_pretrained(evaluated["crt"], "cpu").ask(image, asked)
    shutil.copytree(exported["bundle"], tmp_path / "bundle")
    shutil.copy(image, tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out.splitlines()[-1] == wanted
    (config,) = (yaml.safe_load((tmp_path / "bundle/config.yaml").read_text()),)
    assert (config["out"], config["cache"]) == (compose_config("train", []).out, compose_config("train", []).cache)


def test_the_card_speaks_of_questions(evaluated, exported):
    metrics = json.loads((evaluated["crt"] / "eval/test-off/metrics.json").read_text())
    text = card(exported["merged"])
    low, high = metrics["generated"]["intervals"]["exact_match"]
    assert f"{metrics['generated']['exact_match']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "commonest response" in text
    assert all(instruction in text for instruction in metrics["by_instruction"])
    assert "one of its labels" not in text
    assert "label probabilities" not in text
    (result,) = front_matter(exported["merged"])["model-index"][0]["results"]
    assert {each["type"]: each["value"] for each in result["metrics"]}["token_f1"] == metrics["generated"]["token_f1"]
    assert yaml.safe_load((exported["merged"] / "labels.json").read_text())["sets"][0]["labels"] == []


def test_an_export_that_answers_otherwise_is_refused(evaluated, tmp_path, cli, monkeypatch):
    written = export_run.write_merged

    def spoilt(*arguments) -> None:
        written(*arguments)
        path = arguments[-1] / "model.safetensors"
        save_file({name: 1.1 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})

    monkeypatch.setattr(export_run, "write_merged", spoilt)
    ended = cli("export", f"run={evaluated['vanilla']}", f"out={tmp_path / 'out'}", "samples=3")
    assert ended.refuses(1, "other probabilities of the response's tokens", "nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_without_the_data_noise_is_asked_about(evaluated, questions, tmp_path, cli):
    moved = questions.rename(questions.with_name("moved.jsonl"))
    try:
        ended = cli("export", f"run={evaluated['vanilla']}", f"out={tmp_path / 'out'}", "samples=2", "to=adapter")
    finally:
        moved.rename(questions)
    assert ended.code == 0, ended
    assert "with 2 images of noise" in ended.out


def test_the_page_s_examples_bring_their_question(evaluated, task):
    from vitask.config.compose import compose_config
    from vitask.ui.desk import Desk

    desk = Desk(compose_config("demo_ui", [f"run={evaluated['crt']}", "device=cpu"]))
    rows = task.splits["test"]
    known = {(rows["instruction"][row], task.answers[rows["answer"][row]].text) for row in range(len(rows))}
    examples = desk.examples(4)
    assert len(examples) == 4
    assert {(each.instruction, each.answer) for each in examples} <= known
