"""What of an original InternVL2 checkpoint is refused, and that a stopped conversion leaves nothing half."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitask.errors import UsageError, VitaskError

from .internvl2 import change, write_original, write_tensors

# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "internvl"}, "model_type is 'internvl'.*; it is in the native format already"),
        ({"llm_config__architectures": ["Phi3ForCausalLM"]}, "Phi3ForCausalLM is not supported; those that are: Inte"),
        ({"ps_version": "v1"}, "ps_version is 'v1'"),
        ({"use_llm_lora": 16}, "merge them first"),
        ({"llm_config__rope_pos_id_version": "v2pe"}, "V2PE is not supported"),
        ({"pad2square": True}, "pad2square is true"),
        ({"use_thumbnail": False}, "use_thumbnail is false"),
        ({"dynamic_image_size": True, "use_thumbnail": False}, "use_thumbnail is false"),
        ({"vision_config__layer_norm_eps": 1e-5, "vision_config__qk_normalization": True}, "layer_norm_eps is 1e-05"),
        ({"vision_config__norm_type": ...}, "vision_config.norm_type is missing"),
        ({"llm_config__bias": ...}, "llm_config.bias is missing"),
        ({"llm_config__hidden_size": "wide"}, "transformers refuses it"),
        ({"vision_config__num_attention_heads": 5}, "transformers refuses it: embed_dim must be divisible"),
        ({"llm_config__num_hidden_layers": 3}, r"tensor language_model.model.layers.2.\S+ is missing, and 6 more"),
        ({"llm_config__bias": True}, r"tensor language_model.model.layers.0.attention.wo.bias is missing, and 3 more"),
        (
            {"vision_config__num_hidden_layers": 2},
            r"tensor vision_model.encoder.layers.2.\S+ is not known, and \d+ more",
        ),
        ({"llm_config__intermediate_size": 50}, r"tensor \S+.w1.weight is \(48, 32\), config.json makes it \(50, 32\)"),
        ({"llm_config__num_key_value_heads": 4}, r"wqkv.weight is \(64, 32\), config.json makes it \(96, 32\)"),
        ({"template": "vicuna"}, "conversation.py: there is no template 'vicuna'"),
        ({"template": "other"}, "sep_style is SeparatorStyle.CHATML, only"),
    ],
)
def test_a_config_that_cannot_be_expressed_is_refused(script, own, changes, message):
    change(own / "config.json", **changes)
    with pytest.raises(UsageError, match=message):
        script.convert(own, own.parent / "native")
    assert [path.name for path in own.parent.iterdir()] == ["original"]


def few_words(folder: Path) -> None:
    """Cut the vocabulary of the language model short."""
    change(folder / "config.json", llm_config__vocab_size=9)
    tensors = load_file(folder / "model.safetensors")
    names = ("language_model.model.tok_embeddings.weight", "language_model.output.weight")
    write_tensors(folder, tensors | {name: tensors[name][:9].clone() for name in names})


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (lambda f: (f / "config.json").unlink(), UsageError, "config.json is missing; download the whole checkpoint"),
        (lambda f: (f / "config.json").write_text("{"), VitaskError, "config.json: damaged"),
        (lambda f: (f / "conversation.py").unlink(), UsageError, "conversation.py is missing"),
        (lambda f: (f / "tokenizer.model").unlink(), UsageError, "none of tokenizer.json, vocab.json, tokenizer.model"),
        (lambda f: (f / "tokenizer.model").write_bytes(b"\xff" * 9), VitaskError, "tokenizer.model: damaged"),
        (lambda f: change(f / "tokenizer_config.json", added_tokens_decoder={}), UsageError, "not know <IMG_CONTEXT>"),
        (few_words, UsageError, "the language model has no embedding for <IMG_CONTEXT>"),
        (lambda f: (f / "model.safetensors").rename(f / "x.bin"), UsageError, r"\*.bin files are not read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"12345"), VitaskError, "damaged .* download it again"),
        (
            lambda f: shutil.copy(f / "model.safetensors", f / "twice.safetensors"),
            UsageError,
            "twice.safetensors: .* is there twice",
        ),
        (
            lambda f: write_tensors(f, {"a.qweight": torch.zeros(2, dtype=torch.int8)}),
            UsageError,
            "a.qweight is I8; quantised",
        ),
    ],
)
def test_spoilt_files_are_named(script, own, spoil, kind, message):
    spoil(own)
    with pytest.raises(kind, match=message):
        script.convert(own, own.parent / "native")
    assert [path.name for path in own.parent.iterdir()] == ["original"]


def test_a_missing_file_of_several_is_named(script, tmp_path):
    write_original(tmp_path / "original", "internlm2", files=3)
    (tmp_path / "original" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model-00002-of-00003\.safetensors is missing; download it"):
        script.convert(tmp_path / "original", tmp_path / "native")


# --- nothing is half -------------------------------------------------------------------------------------------------


def test_a_conversion_that_is_stopped_leaves_what_was_there(script, own, monkeypatch):
    target = own.parent / "native"
    for overwrite in (False, True):
        script.convert(own, target, overwrite=overwrite)
    before = (target / "config.json").stat().st_mtime_ns

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", stop)
    for to, options in ((target, {"overwrite": True}), (own.parent / "other", {})):
        with pytest.raises(KeyboardInterrupt):
            script.convert(own, to, **options)
    assert sorted(path.name for path in own.parent.iterdir()) == ["native", "original"]
    assert (target / "config.json").stat().st_mtime_ns == before


def test_what_a_killed_conversion_left_is_hidden_and_goes_with_the_next(script, own):
    (own.parent / ".native.0123.tmp").mkdir()
    script.convert(own, own.parent / "native")
    assert sorted(path.name for path in own.parent.iterdir()) == ["native", "original"]


def test_targets_that_would_lose_something_are_refused(script, own):
    for target, message in ((own, "holds the original"), (own.parent, "holds the original")):
        with pytest.raises(UsageError, match=message):
            script.convert(own, target, overwrite=True)
    (own.parent / "photos").mkdir()
    with pytest.raises(UsageError, match="photos exists and is no checkpoint"):
        script.convert(own, own.parent / "photos", overwrite=True)
