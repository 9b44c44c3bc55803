import re

import numpy as np
import pytest
from PIL import Image

from vitask.config.compose import compose_config
from vitask.config.tuning import build_prompter
from vitask.data import load_digits_task
from vitask.data.contact_sheet import drawable, write_contact_sheet
from vitask.runs.inspect import shown_tokens


@pytest.fixture
def inspect(cli, tmp_path):
    return lambda *overrides: cli("data", "inspect", f"out={tmp_path / 'runs'}", f"cache={tmp_path / 'c'}", *overrides)


def test_the_embedded_default(inspect, tmp_path):
    ended = inspect()
    assert ended.code == 0, ended
    assert ended.err == ""
    assert ended.out.startswith("digits: multi-class, 10 labels; fingerprint ")
    for text in (
        "train, n = 719",
        "72 (10 %)",
        "8 x 8 (1797)",
        "The possible classes are: zero, one,",
        "response:    zero",
    ):
        assert text in ended.out
    sheet = Image.open(tmp_path / "runs/digits/contact-sheet.png")
    assert sheet.size == (8 * 100 + 4, 10 * 116 + 4)
    assert np.asarray(sheet).std() > 20
    assert str(tmp_path / "runs/digits/contact-sheet.png") in ended.out


@pytest.fixture(scope="module")
def prompter():
    return build_prompter(compose_config("train", []).vlm)


def test_the_example_is_shown_as_tokens(inspect, prompter):
    (line,) = [line for line in inspect().out.splitlines() if line.startswith("tokens: ")]
    asked, _, answered = line.removeprefix("tokens:").strip().partition(" => ")
    assert "<img>[" in asked
    assert re.search(r"<IMG_CONTEXT>\[\d+\] x 16 ", asked)
    assert "␣possible[" in asked
    assert [int(number) for number in re.findall(r"\[(\d+)\]", answered)] == list(prompter.response("zero"))
    text = "Analyze the given handwritten digit image. The possible classes are: zero,"
    ids = [int(number) for number in re.findall(r"\[(\d+)\]", asked)]
    assert text in prompter.tokenizer.decode(ids)


def test_tokens_are_those_of_the_prompt_and_the_response(prompter):
    image, prompt = Image.new("L", (8, 8)), prompter.prompt(Image.new("L", (8, 8)), "no [3] x 2 a a a")
    shown = shown_tokens(prompter, image, "no [3] x 2 a a a", "b b")
    found = []
    for word in shown.replace(" => ", " ").split(" "):
        if match := re.fullmatch(r".*\[(\d+)\]", word):
            found.append(int(match[1]))
        elif word.isdecimal():
            found += [found[-1]] * (int(word) - 1)
    assert found == [*prompt.head, *prompt.body, *prompt.tag, *prompter.response("b b")]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("nobody/nothing", "cannot load 'nobody/nothing'"), ("/nowhere", "there is no folder /nowhere")],
)
def test_a_processor_that_cannot_be_loaded_is_one_line(inspect, path, reason):
    ended = inspect(f"vlm.path={path}")
    assert ended.code == 0, ended
    (line,) = [line for line in ended.out.splitlines() if line.startswith("tokens: ")]
    assert "not shown; vlm.path: " in line
    assert reason in line


def test_no_weights_are_loaded(inspect, monkeypatch):
    monkeypatch.setattr("safetensors.safe_open", None)
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", None)
    assert "<IMG_CONTEXT>[" in inspect().out


def test_warnings_say_what_spoils_a_result(inspect, eight):
    path = eight(label=["a", "b", "a", "b", "a", "b", "b", "a"])
    for copy, original in ((6, 0), (3, 2)):
        Image.open(path.parent / f"img/{original}.png").save(path.parent / f"img/{copy}.png")
    ended = inspect("data=table", f"data.path={path}", "data.modality=leaf")
    assert "labels: binary, 2 labels" in ended.out
    assert "duplicate images: 1 of 2 test images are in train too" in ended.out
    assert "1 of 4 train images occur in train before" in ended.out
    assert "2 images occur with different labels" in ended.out
    assert "fewer than 10 training images of a, b" in ended.out
    assert "Analyze the given leaf image." in ended.out


def test_several_labels_count_each_and_no_finding(inspect, eight):
    sets = [[], ["[red]"], ["b"], ["[red]", "b"], [], ["b"], ["b"], []]
    ended = inspect("data=table", f"data.path={eight('labels.jsonl', label=sets)}")
    assert "multi-label, 2 labels, 4 label sets" in ended.out
    lines = [line.split("│")[1:3] for line in ended.out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["[red]", "2 (50 %)"],
        ["b", "2 (50 %)"],
        ["(no finding)", "1 (25 %)"],
    ]


def test_grades_and_a_long_tail(inspect, tmp_path):
    ended = inspect("data.imbalance=0.02", "data.label_texts=[a, b, c, d, e, f, g, h, i, j]")
    assert "the largest class has " in ended.out
    assert "class imbalance: training set long-tailed" in ended.out


def test_an_unknown_action_and_no_action(cli):
    cli("data", "inspct").refuses(2, "no action 'inspct'. Did you mean 'inspect'?")
    assert cli("data").out.startswith("Usage: vitask data inspect")


def test_a_sheet_of_a_task_to_evaluate_on_and_a_label_without_images(toy, tmp_path):
    task = toy([], val=[], test=[0, 1, 1], allow_empty=True)
    write_contact_sheet(task, tmp_path / "deep/sheet.png", columns=2)
    assert Image.open(tmp_path / "deep/sheet.png").size == (2 * 100 + 4, 3 * 116 + 4)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("text", "drawn"),
    [("melanoma", "melanoma"), ("naïve\n\x07病", "naïve ??"), ("x" * 30, "x" * 17 + "..."), ("", "")],
)
def test_labels_are_drawn_safely(text, drawn):
    assert drawable(text, 20) == drawn


def test_digits_have_no_duplicates_between_splits():
    audit = load_digits_task().audit
    assert (audit.across, audit.skipped, audit.contradictions) == ({}, 0, 0)
