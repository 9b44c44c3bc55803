"""`vitask.Answerer`: a run that answers in words, asked from Python as the command line asks it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import vitask

from ..conftest import call

QUESTIONS = ["What color is it?", "What shape is it?", "How large is the shape?"]


@pytest.fixture(scope="module")
def answerer(word_runs):
    return vitask.Answerer.from_pretrained(word_runs["crt"], "cpu")


@pytest.fixture(scope="module")
def images(questions):
    return sorted(questions.parent.glob("*.png"))[:6]


@pytest.mark.parametrize("exemplar", [True, False])
def test_it_says_what_predict_says(exemplar, word_runs, answerer, images):
    options = [f"exemplar={'on' if exemplar else 'off'}", f"instruction={QUESTIONS[0]}"]
    ended = call(["predict", f"run={word_runs['crt']}", *options, *map(str, images)])
    found = answerer.ask(images, QUESTIONS[0], exemplar=exemplar)
    assert ended.out.splitlines() == [f"{path}: {answer}" for path, answer in zip(images, found, strict=True)]
    assert any(found)


def test_each_image_may_be_asked_something_else(answerer, images):
    asked = [QUESTIONS[place % 3] for place in range(6)]
    one_by_one = [answerer.ask(image, question)[0] for image, question in zip(images, asked, strict=True)]
    assert answerer.ask(images, asked) == one_by_one
    assert answerer.ask(images, asked, batch_size=4) == one_by_one
    assert answerer.ask([], QUESTIONS[0]) == answerer.ask([], []) == []


def test_several_threads_are_told_what_one_is_told(answerer, images):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: answerer.ask(images[place % 6], QUESTIONS[place % 3]), range(12)))
    assert found == [answerer.ask(images[place % 6], QUESTIONS[place % 3]) for place in range(12)]


@pytest.mark.parametrize(
    ("instruction", "options", "text"),
    [
        ("", {}, "instruction: expected words"),
        (" ", {}, "instruction: expected words"),
        ([QUESTIONS[0], ""], {}, "instruction: expected words"),
        ([QUESTIONS[0], None], {}, "instruction: expected words"),
        (QUESTIONS, {}, "instruction: 3 for 2 images"),
        ([], {}, "instruction: 0 for 2 images"),
        (None, {}, "instruction: expected a text or texts, got NoneType"),
        ("<image> what <IMG_CONTEXT> color", {}, "instruction: '<image> what .*holds <IMG_CONTEXT>, which stands for"),
        (QUESTIONS[0], {"batch_size": 0}, "batch_size: expected a whole number of at least 1, got 0"),
        (QUESTIONS[0], {"batch_size": 2.5}, "batch_size: expected a whole number of at least 1, got 2.5"),
    ],
)
def test_a_wrong_request_is_said(instruction, options, text, answerer, images):
    with pytest.raises(vitask.UsageError, match=text):
        answerer.ask(images[:2], instruction, **options)


def test_only_a_run_that_answers_in_words_is_one(pipeline, word_runs, answerer, images):
    with pytest.raises(vitask.UsageError, match=r"chooses among labels; vitask\.Classifier asks it"):
        vitask.Answerer.from_pretrained(pipeline.run("crt"))
    with pytest.raises(vitask.UsageError, match=r"answers in words.*vitask\.Answerer asks it"):
        vitask.Classifier.from_pretrained(word_runs["crt"])
    with pytest.raises(vitask.UsageError, match=r"keeps an encoder without a head.*ask a VLM"):
        vitask.Answerer.from_pretrained(word_runs["tsm"])
    with pytest.raises(vitask.UsageError, match="one array of shape"):
        answerer.ask(np.zeros((8, 8, 3), np.uint8), QUESTIONS[0])
    assert answerer.ask(Image.open(images[0]), QUESTIONS[0]) == answerer.ask(images[:1], QUESTIONS[0])
    assert repr(answerer) == "Answerer(crt on questions, with and without exemplar)"


def test_a_run_without_its_encoder_answers_without_exemplar(word_runs, images, tmp_path):
    shutil.copytree(word_runs["out"] / "questions", tmp_path / "questions", ignore=shutil.ignore_patterns("tsm-*"))
    found = vitask.Answerer.from_pretrained(tmp_path / "questions" / word_runs["crt"].name, "cpu")
    assert not found.sees_exemplar
    assert len(found.ask(images, QUESTIONS[0], exemplar=False)) == 6
    with pytest.raises(vitask.VitaskError, match="exemplar=False answers without"):
        found.ask(images, QUESTIONS[0])
