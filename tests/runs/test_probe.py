"""`vitask evaluate probe=...`: a VLM before and after tuning, against loops over plain Hugging Face models."""

from __future__ import annotations

import csv
import json
import math
import shutil

import pytest
from PIL import Image

from .hugging_face import PlainVLM

ROWS = [
    ("bar/0.png", "Repeat: pneumonia", "pneumonia"),
    ("dot/1.png", "Describe the image.", "a small white square at the center"),
    ("row/2.png", "Repeat the word: nine", "nine"),
    ("row/0.png", "Which shape is in the given image? circle, square.", "square"),
]


@pytest.fixture(scope="module")
def table(shapes, tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "words.jsonl"
    rows = [{"image": str(shapes / "test" / image), "prompt": asked, "answer": answer} for image, asked, answer in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run(pipeline, tmp_path_factory):
    """The run of stage crt alone: a probe needs no TSM."""
    path = tmp_path_factory.mktemp("probed") / "shapes" / pipeline.run("crt").name
    shutil.copytree(pipeline.run("crt"), path, ignore=shutil.ignore_patterns("eval"))
    (path / "model/connector.safetensors").unlink()
    return path


@pytest.fixture(scope="module")
def asked(run, table):
    from tests.conftest import call

    return call(["evaluate", f"run={run}", f"probe={table}", "batch_size=3"])


def metrics(run, name: str = "words") -> dict:
    return json.loads((run / "eval" / f"probe-{name}" / "metrics.json").read_text())


def test_perplexity_and_answers_are_those_of_the_models_alone(asked, run, shapes):
    assert asked.code == 0, asked
    found = metrics(run)
    with (run / "eval/probe-words/predictions.csv").open(newline="") as file:
        given = list(csv.DictReader(file))
    for state, plain in (("untuned", PlainVLM(None)), ("tuned", PlainVLM(run))):
        images = [Image.open(shapes / "test" / image) for image, *_ in ROWS]
        log_p = [
            value
            for image, (_, prompt, answer) in zip(images, ROWS, strict=True)
            for value in plain.log_p(image, prompt, answer)
        ]
        assert found["tokens"] == len(log_p)
        assert found[state]["perplexity"] == pytest.approx(math.exp(-sum(log_p) / len(log_p)), rel=1e-4)
        texts = [plain.answer(image, prompt) for image, (_, prompt, _) in zip(images, ROWS, strict=True)]
        assert [row[state] for row in given] == texts
        right = [text == answer for text, (*_, answer) in zip(texts, ROWS, strict=True)]
        assert found[state]["exact_match"] == sum(right) / len(ROWS)
    for key, difference in found["difference"].items():
        assert difference == pytest.approx(found["tuned"][key] - found["untuned"][key])
    assert found["tuned"]["perplexity"] != pytest.approx(found["untuned"]["perplexity"], rel=1e-3)


def test_the_table_shows_both_states(asked):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in asked.out.splitlines() if line[:2] == "| "]
    assert [row[0] for row in rows] == ["probe words, n = 4", "before tuning", "after tuning", "difference"]
    before, after, difference = [float(row[1]) for row in rows[1:]]
    assert after - before == pytest.approx(difference, abs=2e-3)


def test_a_probe_is_asked_once_until_it_changes(asked, run, table, cli, monkeypatch):
    import vitask.runs.probe as module

    kept = metrics(run)
    monkeypatch.setattr(module, "load_tuned", None)
    assert cli("evaluate", f"run={run}", f"probe={table}").code == 0
    monkeypatch.undo()
    whole = table.read_text()
    table.write_text(whole.replace("nine", "eight"))
    try:
        assert cli("evaluate", f"run={run}", f"probe={table}").code == 0
        assert metrics(run)["fingerprint"] != kept["fingerprint"]
    finally:
        table.write_text(whole)


@pytest.mark.parametrize(
    ("stage", "options", "code", "texts"),
    [
        ("tsm", ["probe=embedded"], 2, ["is the run of a TSM"]),
        ("crt", ["probe=embeded"], 2, ["probe=embeded: no such table. Did you mean 'embedded'?"]),
        ("crt", ["probe=embedded", "exemplar=on"], 2, ["leave exemplar=on out"]),
        ("crt", ["probe=embedded", "contrast=1"], 2, ["leave contrast out"]),
        ("crt", ["probe=embedded", "data=digits"], 2, ["leave data out"]),
    ],
)
def test_what_does_not_fit_is_refused(stage, options, code, texts, pipeline, cli):
    assert cli("evaluate", f"run={pipeline.run(stage)}", *options).refuses(code, *texts)
