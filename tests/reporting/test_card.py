"""The model card: whatever a label or a data set is called, it stands for itself."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest
import yaml

from vitask.config.compose import compose_config
from vitask.export.portable import on_hub
from vitask.reporting.card import Card, escaped, fenced, model_card
from vitask.runs.identity import term_weights

NASTY = ["<img src=x onerror=alert(1)>", "a|b", "*stars* and _lines_", "[link](http://x)", "`code`", "# no heading",
         "two\nlines", "1. no list", "- no point", "~~gone~~", "&amp;", "back\\slash", "$x$"]  # fmt: skip


def make(**changes) -> Card:
    config = compose_config("train", ["stage=crt"])
    labels = [*NASTY, "plain"]
    values = {
        "title": "t: *x*",
        "kind": "merged",
        "run": "crt-seed0-1a2b3c4d",
        "base": "OpenGVLab/InternVL2_5-2B-MPO-hf",
        "base_on_hub": True,
        "data": {"name": "x: y <b>", "fingerprint": "abc", "notes": {"a_b": "c*d*"}, "counts": {"train": 3}},
        "sets": [
            {"name": "<s>", "labels": labels, "multi_label": False, "instruction": "Say ```\n# this", "answers": labels}
        ],
        "metrics": [],
        "config": asdict(config),
        "weights": term_weights(config),
        "usage": "print(1)",
        "notes": [],
        "checked": "checked",
        "versions": {"torch": "2", "wandb": None},
    }
    return Card(**{**values, **changes})


def labelled(name: str, *, multi_label: bool) -> dict:
    """An entry of `labels.json`: two labels, and where an image may have several, three of their four sets."""
    sets = [["x"], ["y"], *([["x", "y"]] if multi_label else [])]
    answers = [{"text": ", ".join(each), "labels": each, "tokens": [1]} for each in sets]
    words = {"name": name, "instruction": f"Say {name}"}
    return {**words, "labels": ["x", "y"], "multi_label": multi_label, "answers": answers}


def seen(text: str) -> str:
    """What a reader of Markdown sees of escaped text: by the rules for backslashes and entities."""
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    return re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), text)


@pytest.mark.parametrize("text", NASTY)
def test_an_escaped_text_is_read_as_itself_and_has_no_mark_left(text):
    found = escaped(text)
    assert seen(found) == " ".join(text.split())
    assert not re.search(r"(?<!\\)[<>*_`\[\]~$]|(?<!\\)&(?!#)|^(#|-|\+|\d+[.)]) ", re.sub(r"\\\\", "", found))


def test_every_name_in_a_card_is_escaped():
    text = model_card(make())
    prose = re.sub(r"(?s)````?.*?\n````?", "", text.split("---\n", 2)[2])
    assert "<img" not in re.sub(r"\\<", "", prose)
    assert all(escaped(label) in prose for label in NASTY)
    assert "x: y \\<b\\>" in prose
    assert "a\\_b: c\\*d\\*" in prose


def test_an_instruction_cannot_end_its_block():
    assert fenced("Say ```\n# this") == "````\nSay ```\n# this\n````"
    assert fenced("Say ```\n# this") in model_card(make())


def test_the_front_matter_is_yaml_whatever_the_names():
    metrics = [
        {"mode": mode, "split": "test", "samples": 4, "accuracy": 0.5, "macro_f1": 0.25, "auc": float("nan"),
         "intervals": {"accuracy": [0.2, 0.8]}, "tsm": {"accuracy": 1.0}, "majority": None}
        for mode in ("off", "on")
    ]  # fmt: skip
    text = model_card(make(metrics=metrics))
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["base_model"], head["base_model_relation"]) == ("OpenGVLab/InternVL2_5-2B-MPO-hf", "finetune")
    assert (head["license"], head["license_name"]) == ("other", "not-stated")
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"] == {"name": "x: y <b>", "type": "x-y-b", "split": "test"}
    assert {m["name"]: m["value"] for m in result["metrics"]} == {
        "accuracy, without exemplar": 0.5,
        "macro-F1, without exemplar": 0.25,
        "accuracy, with exemplar": 0.5,
        "macro-F1, with exemplar": 0.25,
    }
    rows = [line for line in text.splitlines() if line.startswith(("| test", "| TSM"))]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [
        ["test, without exemplar", "4", "0.500 [0.200, 0.800]", "0.250", "-"],
        ["TSM alone", "4", "1.000", "-", "-"],
        ["test, with exemplar", "4", "0.500 [0.200, 0.800]", "0.250", "-"],
    ]


def test_several_data_sets_have_a_row_and_an_instruction_each():
    one = {"accuracy": 0.5, "samples": 2}
    metrics = {"mode": "off", "split": "test", **one, "sets": {"a": one, "b|c": {**one, "accuracy": 1.0}}}
    sets = [labelled("a", multi_label=True), labelled("b|c", multi_label=False)]
    text = model_card(make(metrics=[metrics], sets=sets))
    assert "| test, without exemplar: b\\|c " in text
    assert "give an image one of 3 sets of the 2 labels of a or one of 2 labels of b|c:" in text
    assert "### a\n\nLabels (an image is given one of 3 sets of them, " in text
    assert "### b|c\n\nLabels: x, y." in text
    assert "- a: It always gives one of the sets of labels that occur in training" in text
    assert "- b|c: It always gives one of its labels" in text
    assert fenced("Say b|c") in text


def test_a_run_of_several_labels_an_image_is_said_to_give_sets_that_it_learned():
    text = model_card(make(sets=[labelled("a", multi_label=True)]))
    assert "tuned to give an image one of 3 sets of the 2 labels of a:" in text
    assert "\n- It always gives one of the sets of labels that occur in training" in text
    assert "The probability of a label is that of all sets that hold it" in text
    for untrue in ("any number of them", "one of 2 labels", "one of its labels", "compare the labels"):
        assert untrue not in text


def test_a_linear_head_is_said_to_give_every_label_above_one_half():
    config = asdict(compose_config("train", ["stage=head"]))
    text = model_card(make(kind="bundle", sets=[labelled("a", multi_label=True)], config=config))
    assert "tuned to give an image any number of 2 labels of a:" in text
    assert "Labels (any number of them an image): x, y." in text
    assert "every label whose probability is above one half" in text


def test_a_base_model_on_no_hub_is_not_claimed_to_be_on_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/internvl").mkdir(parents=True)
    for path, expected in {"tiny": False, "OpenGVLab/x": True, "models/internvl": False, str(tmp_path): False}.items():
        assert on_hub(compose_config("train", [f"vlm.path={path}"])) == expected
    assert "base_model" not in yaml.safe_load(model_card(make(base_on_hub=False)).split("---\n")[1])
