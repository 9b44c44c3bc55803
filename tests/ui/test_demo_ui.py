"""`vitask demo-ui` without a browser: what it refuses, and what the page would ask of a run."""

from __future__ import annotations

import pytest

import vitask
from vitask.config.compose import compose_config


def test_without_gradio_it_says_what_to_install(pipeline, cli, monkeypatch):
    from vitask.ui import serve

    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    ended = cli("demo-ui", f"run={pipeline.run('crt')}")
    assert ended.refuses(2, "needs gradio", "pip install 'vitask[ui]'")


def test_wrong_requests_are_refused(pipeline, tmp_path, cli):
    assert cli("demo-ui").refuses(2, "run has no value")
    assert cli("demo-ui", f"run={tmp_path}", "port=0").refuses(2, "port", "between 1 and 65535")
    assert cli("demo-ui", f"run={tmp_path}", "share=true").refuses(2, "share")
    assert "demo-ui [key=value" in cli("demo-ui", "--help").out


def desk(run):
    from vitask.ui.desk import Desk

    return Desk(compose_config("demo_ui", [f"run={run}", "device=cpu"]))


def test_a_tsm_alone_is_refused(pipeline):
    with pytest.raises(vitask.UsageError, match="the run of a TSM"):
        desk(pipeline.run("tsm"))


def test_every_column_is_what_the_classifier_says(pipeline, shapes):
    asked = desk(pipeline.run("crt"))
    assert asked.columns == ["TSM", "VLM without exemplar", "VLM with exemplar"]
    examples = asked.examples(6)
    assert [each.answer for each in examples] == sorted(each.answer for each in examples)
    assert len(examples) == 6
    tsm, vlm = (vitask.Classifier.from_pretrained(pipeline.run(stage), "cpu") for stage in ("tsm", "crt"))
    image = examples[0].image
    wanted = [tsm.predict(image), vlm.predict(image, exemplar=False), vlm.predict(image, exemplar=True)]
    for found, (said,) in zip(asked.answers(image).values(), wanted, strict=True):
        assert found == pytest.approx(said.probabilities, abs=1e-6)
    assert desk(pipeline.run("vanilla")).columns == ["TSM", "VLM without exemplar"]


def test_a_talk_has_turns_and_is_the_same_each_time(pipeline):
    asked = desk(pipeline.run("crt"))
    image = asked.examples(1)[0].image
    first = [{"role": "user", "content": "Which shape is it?"}]
    said = asked.reply(image, first)
    assert isinstance(said, str)
    assert said == asked.reply(image, first)
    turns = [*first, {"role": "assistant", "content": said}, {"role": "user", "content": "Are you sure?"}]
    assert isinstance(asked.reply(image, turns), str)


def test_a_talk_that_the_model_cannot_read_is_refused(pipeline):
    asked = desk(pipeline.run("crt"))
    image = asked.examples(1)[0].image
    first = {"role": "user", "content": "Which shape is it?"}
    turns = [first, {"role": "assistant", "content": "dot"}, {"role": "user", "content": "And <IMG_CONTEXT>?"}]
    with pytest.raises(vitask.UsageError, match=r"'And <IMG_CONTEXT>\?' holds <IMG_CONTEXT>, which stands for"):
        asked.reply(image, turns)
    long = {"role": "user", "content": "What is it? " * 750}
    with pytest.raises(vitask.UsageError, match=r"the talk is \d{4} tokens long .* this VLM reads 1024"):
        asked.reply(image, [long])


def test_the_page_shows_what_was_refused(pipeline):
    """Errors are read as HTML, and so is what they quote."""
    gradio = pytest.importorskip("gradio", reason="gradio is not installed (vitask[ui])")
    from vitask.ui.page import build

    asked = desk(pipeline.run("crt"))
    (said,) = (each.fn for each in build(asked, []).fns.values() if each.name == "said")
    with pytest.raises(gradio.Error, match="holds &lt;IMG_CONTEXT&gt;, which stands for"):
        said(asked.examples(1)[0].image, "<IMG_CONTEXT>", [])
