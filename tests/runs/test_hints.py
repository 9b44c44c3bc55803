"""The TSM's prediction as text in the instruction: in training, evaluation and prediction, one data set or several."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from vitask.config.build import build_task
from vitask.config.compose import compose_config
from vitask.config.exemplars import build_tsm_exemplars
from vitask.data import Hint
from vitask.runs import assembly
from vitask.runs.exemplars import image_set
from vitask.runs.questions import Question, asked_of_each, build_questions
from vitask.tsm import load_tsm

from .test_evaluate import predictions
from .test_predict import answers


@pytest.mark.slow
def test_a_hint_asks_each_image_with_its_own_prediction(pipeline, shapes, cli, tmp_path, monkeypatch):
    shutil.copytree(pipeline.run("tsm"), tmp_path / "shapes" / pipeline.run("tsm").name)
    hint = ["data.instruction.hint=true", "data.instruction.hint_template= It says {prediction}!"]
    arguments = [*pipeline.overrides, *hint, "prerequisites=require", f"out={tmp_path}"]
    trained_with, prompts = [], assembly.prompts_and_features
    monkeypatch.setattr(
        assembly, "prompts_and_features", lambda *given: trained_with.extend(given[3]) or prompts(*given)
    )
    ended = cli("train", "stage=vanilla", *arguments)
    assert ended.code == 0, ended
    assert len(trained_with) == 24
    assert {text.partition(" It says ")[2] for text in trained_with} <= {"bar!", "dot!", "row!"}
    (run,) = (tmp_path / "shapes").glob("vanilla-*")
    assert not (run / "model/connector.safetensors").exists()
    (member,) = json.loads((run / "model/vitask.json").read_text())["members"]
    assert member["hint"]["template"] == " It says {prediction}!"
    assert cli("evaluate", f"run={run}", "generate=false").code == 0
    expected = {row["id"]: row for row in predictions(run, "off")}
    ended = cli("predict", f"run={run}", shapes / "test/bar", shapes / "test/row")
    assert ended.code == 0, ended
    for path, row in answers(ended.out).items():
        wanted = expected[path.removeprefix(f"{shapes}/")]
        assert row == pytest.approx({label: float(wanted[f"p({label})"]) for label in row}, abs=6e-4)
    plugged = cli("evaluate", f"run={run}", f"tsm={pipeline.run('tsm')}", "generate=false")
    assert plugged.code == 0, plugged
    (by_tsm,) = (run / "eval").glob("test-off_tsm-*")
    assert (by_tsm / "predictions.csv").read_text() == (run / "eval/test-off/predictions.csv").read_text()
    shutil.rmtree(tmp_path / "shapes" / pipeline.run("tsm").name)
    assert cli("evaluate", f"run={run}", "overwrite=true").refuses(1, "there is no finished TSM")
    assert cli("predict", f"run={run}", shapes / "test/bar").refuses(1, "there is no finished TSM")


def test_the_prompts_hold_the_predictions(pipeline):
    config = compose_config("train", [*pipeline.arguments, "data.instruction.hint=true"])
    task = build_task(config.data, config.seed, config.cache)
    (question,) = build_questions(config, task)
    source = build_tsm_exemplars(config, load_tsm(pipeline.run("tsm") / "tsm")[0], "cpu")
    shown = image_set(task, "test")
    logits = source.logits(shown)
    asked = asked_of_each([question], shown.sets, logits)
    said = [task.labels[place] for place in logits.argmax(-1).tolist()]
    assert asked == [f"{question.instruction} A classifier's answer is: {label}." for label in said]
    assert question == Question.of(json.loads(json.dumps(question.description())))


def test_hints_of_a_mixture_speak_of_their_own_labels_and_join_several():
    hint = Hint(": {prediction}", " + ", "nothing")
    first = Question("a", ["red", "blue"], False, [], "a?", hint, 0)
    second = Question("b", ["spot", "line", "dot"], True, [], "b?", hint, 2)
    third = Question("c", ["x"], False, [], "c?", None, 5)
    logits = torch.tensor(
        [[1, 2, 9, 9, 9, 9], [3, 2, 9, 9, 9, 9], [9, 9, 1, -1, 0.1, 9], [9, 9, -1, -2, 0, 9], [9.0] * 6]
    )
    asked = asked_of_each([first, second, third], [range(2), range(2, 4), range(4, 5)], logits)
    assert asked == ["a?: blue", "a?: red", "b?: spot + dot", "b?: nothing", "c?"]
    assert asked_of_each([third], [range(2)], None) == ["c?", "c?"]
