from __future__ import annotations

import json

import pytest
import torch
import transformers

from vitask.errors import UsageError, VitaskError
from vitask.vlm.load import TINY_FOLDER, load_pretrained, resolve_path

from .tiny import make_hf, tiny_processor


@pytest.fixture
def folder(tmp_path):
    make_hf().save_pretrained(tmp_path / "vlm")
    tiny_processor().save_pretrained(tmp_path / "vlm")
    return tmp_path / "vlm"


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def assert_one_line(error: BaseException) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    ("dtype", "loaded"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16), ("auto", torch.float32)],
)
def test_a_folder_loads_in_the_dtype_asked_for(folder, dtype, loaded):
    model, processor = load_pretrained(str(folder), dtype=dtype)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {loaded}
    assert processor.image_token_id == model.config.image_token_id
    for name, parameter in make_hf().named_parameters():
        assert torch.equal(model.get_parameter(name), parameter.to(loaded))


def test_tiny_loads_with_the_attention_asked_for():
    model, processor = load_pretrained("tiny", attention="eager")
    assert model.config._attn_implementation == "eager"
    assert processor.chat_template
    assert resolve_path("tiny") == str(TINY_FOLDER)


def test_remote_code_is_off_until_asked_for(folder, monkeypatch):
    seen = []

    def record(source, **options):
        seen.append(options)
        raise OSError("seen")

    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", record)
    for options in ({}, {"trust_remote_code": True, "revision": "v2"}):
        with pytest.raises(VitaskError, match="seen"):
            load_pretrained(str(folder), **options)
    assert seen[0]["trust_remote_code"] is False
    assert "revision" not in seen[0]
    assert seen[1]["trust_remote_code"] is True
    assert seen[1]["revision"] == "v2"


@pytest.mark.parametrize("path", ["{}/nowhere", "./nowhere", "../nowhere", "~/nowhere-at-all"])
def test_missing_folder(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        load_pretrained(path.format(tmp_path))


def test_folder_without_a_model(tmp_path):
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_pretrained(str(tmp_path))


def test_hub_name_that_cannot_be_reached(offline):
    with pytest.raises(VitaskError, match=r"cannot load 'nobody/nothing-hf'.*Hugging Face cache") as error:
        load_pretrained("nobody/nothing-hf")
    assert_one_line(error.value)


def test_unknown_dtype():
    with pytest.raises(UsageError, match="'int8' is not one of float32, bfloat16"):
        load_pretrained("tiny", dtype="int8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config"),
        pytest.param(
            lambda f: (f / "config.json").write_text(json.dumps({"model_type": "bert"})),
            "cannot load",
            marks=pytest.mark.slow,
        ),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]), "cannot load"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "cannot load"),
        (lambda f: (f / "processor_config.json").unlink(), "cannot load"),
    ],
    ids=["config", "text model", "no weights", "cut weights", "tokenizer", "no processor"],
)
def test_broken_folder_is_one_line(folder, damage, words, offline):
    damage(folder)
    with pytest.raises(VitaskError, match=words) as error:
        load_pretrained(str(folder))
    assert_one_line(error.value)
