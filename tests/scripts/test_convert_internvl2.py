"""Original InternVL2 checkpoints, converted: what they compute, how they read, and that they train."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import GenerationConfig
from transformers.convert_slow_tokenizer import import_protobuf

from vitask.errors import UsageError
from vitask.vlm.families import family_for
from vitask.vlm.load import load_pretrained, resolve_path
from vitask.vlm.prompts import Prompter

from ..vlm.tiny import picture
from .internvl2 import KINDS, SCRIPTS, SYSTEM, change, write_original, write_tensors
from .pair import QUESTION, Pair
from .reference import sentencepiece_ids


def contents(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


# --- what it computes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_converted_model_computes_what_the_original_does(pairs, kind):
    single, spread = pairs(kind).differences(torch.float32)
    double, _ = pairs(kind).differences(torch.float64)
    print(f"{kind}: float32 {single:.1e}, float64 {double:.1e}, logits of standard deviation {spread:.2f}")
    assert spread > 0.5
    assert single < 1e-5
    assert double < (1e-5 if kind == "internlm2_long" else 1e-12), "transformers stretches angles in float32"


def all_queries_first(right, tensor, native, heads, groups):
    each = len(tensor) // (heads + 2 * groups)
    return dict(zip(native, tensor.split([heads * each, groups * each, groups * each]), strict=True))


def values_before_keys(right, tensor, native, heads, groups):
    query, key, value = native
    return right(tensor, [query, value, key], heads, groups)


@pytest.mark.parametrize("wrong", [all_queries_first, values_before_keys])
@pytest.mark.parametrize("kind", ["internlm2", "internlm2_bfloat16"])
def test_a_wrong_split_of_wqkv_is_seen(pairs, script, monkeypatch, tmp_path, kind, wrong):
    right, pair = script.split, pairs(kind)

    def split(tensor, native, *sizes):
        fused = len(native) == 3 and native[0].startswith("language_model")
        return wrong(right, tensor, native, *sizes) if fused else right(tensor, native, *sizes)

    monkeypatch.setattr(script, "split", split)
    script.convert(pair.source, tmp_path / "wrong")
    difference, spread = Pair(pair.source, tmp_path / "wrong", pair.tensors).differences(torch.float32)
    assert difference > 0.1 * spread


@pytest.mark.parametrize("name", ["ls1", "mlp1.3.bias", "w1.weight", "attn.qkv.bias", "class_embedding", "ffn_norm"])
def test_every_kind_of_tensor_reaches_the_logits(pairs, name):
    pair = pairs("internlm2")
    spoilt = {key: tensor * (1 if name not in key else 1.5) for key, tensor in pair.tensors.items()}
    assert Pair(pair.source, pair.target, spoilt).differences(torch.float32)[0] > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_every_original_value_is_used_exactly_once(pairs, kind):
    pair = pairs(kind)
    before = torch.cat([tensor.flatten() for tensor in pair.tensors.values()])
    after = torch.cat([tensor.flatten() for tensor in contents(pair.target).values()])
    assert before.dtype == after.dtype
    assert torch.equal(before.sort().values, after.sort().values)


def test_many_files_hold_what_one_does(pairs, script, monkeypatch, tmp_path):
    pair = pairs("internlm2")
    monkeypatch.setattr(script, "FILE_BYTES", 20_000)
    script.convert(pair.source, tmp_path / "many")
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 5
    assert files[-1] == f"model-{len(files):05d}-of-{len(files):05d}.safetensors"
    one, many = contents(pair.target), contents(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    assert Pair(pair.source, tmp_path / "many", pair.tensors).differences(torch.float32)[0] < 1e-5


def test_names_are_those_of_published_native_checkpoints(pairs):
    names = contents(pairs("internlm2").target)
    assert {"language_model.lm_head.weight", "language_model.model.layers.0.self_attn.q_proj.weight"} < names.keys()
    assert {"vision_tower.encoder.layer.0.lambda_1", "multi_modal_projector.linear_2.bias"} < names.keys()


def test_a_head_that_repeats_tied_embeddings_is_dropped_and_another_one_refused(script, tmp_path):
    tensors = write_original(tmp_path / "original", "qwen2")
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"].clone()
    write_tensors(tmp_path / "original", tensors)
    script.convert(tmp_path / "original", tmp_path / "native")
    assert Pair(tmp_path / "original", tmp_path / "native", tensors).differences(torch.float32)[0] < 1e-5
    write_tensors(tmp_path / "original", tensors | {"language_model.lm_head.weight": torch.zeros(8, 32)})
    with pytest.raises(UsageError, match=r"lm_head\.weight differs from .*embed_tokens\.weight, but config.json ties"):
        script.convert(tmp_path / "original", tmp_path / "another")


def test_precision_is_that_of_the_original_by_either_of_its_names(script, tmp_path):
    write_original(tmp_path / "original", "internlm2_bfloat16")
    change(tmp_path / "original/config.json", torch_dtype=..., dtype="bfloat16")
    script.convert(tmp_path / "original", tmp_path / "native")
    assert load_pretrained(str(tmp_path / "native"), dtype="auto")[0].dtype == torch.bfloat16


# --- how it reads ----------------------------------------------------------------------------------------------------


def test_prompts_are_the_original_ones_and_sentencepiece_reads_them(pairs):
    pair = pairs("internlm2")
    model, processor = load_pretrained(str(pair.target))
    prompter = Prompter(processor, family_for(model), model.config, {"crop_to_patches": False})
    prompt = prompter.prompt(picture(0), QUESTION)
    proto = import_protobuf().ModelProto.FromString((pair.source / "tokenizer.model").read_bytes())
    pieces = [(piece.piece, piece.score, piece.type) for piece in proto.pieces]
    settings = json.loads((pair.source / "tokenizer_config.json").read_text())
    added = {int(number): token["content"] for number, token in settings["added_tokens_decoder"].items()}
    known = {token: number for number, token in added.items()}
    opening = ["<s>", "<|im_start|>", f"system\n{SYSTEM}", "<|im_end|>", "<|im_start|>", "user\n"]
    image = ["<img>", *["<IMG_CONTEXT>"] * 4, "</img>", f"\n{QUESTION}", "<|im_end|>"]
    parts = [*opening, *image, "<|im_start|>", "assistant\n"]
    wanted = [i for part in parts for i in ([known[part]] if part in known else sentencepiece_ids(part, pieces, added))]
    assert [*prompt.head, *prompt.body, *prompt.tag] == wanted
    assert prompt.image_tokens == 4
    assert prompter.response("one") == (*sentencepiece_ids("one", pieces, added), known["<|im_end|>"])
    assert prompter.decode(prompter.response(f" {QUESTION}  书")) == f"{QUESTION}  书"
    assert GenerationConfig.from_pretrained(pair.target).eos_token_id == known["<|im_end|>"]
    assert model.config.text_config.eos_token_id == 2


@pytest.mark.parametrize(("kind", "first"), [("qwen2", ""), ("llama", "<s>")])
def test_other_tokenizers_read_the_same_turns(pairs, kind, first):
    model, processor = load_pretrained(str(pairs(kind).target))
    prompter = Prompter(processor, family_for(model), model.config, {"crop_to_patches": False})
    prompt = prompter.prompt(picture(0), QUESTION)
    tokens = 4 if kind == "qwen2" else 9  # 48 px, forced on a tower of 32 px
    image = f"<img>{'<IMG_CONTEXT>' * tokens}</img>"
    turns = f"<|im_start|>system\n{SYSTEM}<|im_end|><|im_start|>user\n{image}\n{QUESTION}<|im_end|>"
    found = processor.tokenizer.decode([*prompt.head, *prompt.body, *prompt.tag])
    assert found == f"{first}{turns}<|im_start|>assistant\n"
    assert max(prompter.response(QUESTION)) < model.config.text_config.vocab_size


@pytest.mark.parametrize(("tiled", "tokens"), [(True, 12), (False, 4)])
def test_an_image_becomes_tiles_where_the_original_says_so(script, own, tiled, tokens):
    change(own / "config.json", dynamic_image_size=tiled, use_thumbnail=tiled, pad2square=False)
    script.convert(own, own.parent / "native")
    model, processor = load_pretrained(str(own.parent / "native"))
    wide = picture(0).resize((64, 32))
    assert Prompter(processor, family_for(model), model.config, {}).prompt(wide, QUESTION).image_tokens == tokens


def test_a_system_turn_of_ones_own_replaces_the_checkpoints(pairs):
    _, processor = load_pretrained(str(pairs("internlm2").target))
    said = {"system": "Mine.", "user": "Hi", "assistant": "Yo"}
    turns = [{"role": role, "content": text} for role, text in said.items()]
    mine = "<|im_start|>system\nMine.<|im_end|><|im_start|>user\nHi<|im_end|><|im_start|>assistant\nYo<|im_end|>"
    assert processor.apply_chat_template(turns, tokenize=False) == mine


# --- as a user runs it -----------------------------------------------------------------------------------------------


WAYS = {"module": ("-m", "vitask.vlm.convert_internvl2"), "script": (str(SCRIPTS / "convert_internvl2.py"),)}


def run(*arguments: object, way: str = "module") -> subprocess.CompletedProcess:
    command = [sys.executable, *WAYS[way], *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_command_line(own):
    target = own.parent / "native"
    for way in WAYS:
        assert "InternVL2-2B-hf" in run("--help", way=way).stdout
    lost = run(own.parent / "lost", target)
    assert (lost.returncode, lost.stderr) == (2, f"convert_internvl2: there is no folder {own.parent / 'lost'}\n")
    made = run(own, target)
    assert made.returncode == 0, made.stderr
    again = run(own, target)
    assert again.returncode == 2
    assert again.stderr == f"convert_internvl2: {target} exists; name another folder, or say --overwrite\n"
    with safe_open(target / "model-00001-of-00001.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_an_original_that_is_not_converted_is_refused_with_the_command(own, small, cli):
    ended = cli("train", "stage=vanilla", *small, "vlm=internvl2_2b", f"vlm.path={own}")
    command = f"python -m vitask.vlm.convert_internvl2 {own} {own}-hf"
    assert ended.refuses(2, f"vlm.path: {own} is an original InternVL2", command, f"vlm.path={own}-hf")
    assert "trust_remote_code" not in ended.err


@pytest.mark.parametrize(
    ("path", "place"),
    [
        *((path, "InternVL2-2B") for path in ("InternVL2-2B", "./InternVL2-2B-hf", "OpenGVLab/InternVL2-2B")),
        ("/models/InternVL2-2B-hf", "/models/InternVL2-2B"),
    ],
)
def test_a_folder_that_is_not_there_comes_with_the_two_commands(path, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"vlm\.path: there is no folder") as caught:
        resolve_path(path)
    for command in (
        f"`hf download OpenGVLab/InternVL2-2B --local-dir {place}`",
        f"`python -m vitask.vlm.convert_internvl2 {place} {place}-hf`",
    ):
        assert command in str(caught.value)


@pytest.mark.parametrize("path", ["OpenGVLab/InternVL2_5-2B-MPO-hf", "me/InternVL2-2B", "OpenGVLab/InternVL3-1B-hf"])
def test_other_names_on_the_hub_are_asked_for_there(path):
    assert resolve_path(path) == path


@pytest.mark.slow
def test_it_trains(pairs, small, cli, tmp_path):
    target = pairs("internlm2").target
    vlm = ("vlm=internvl2_2b", f"vlm.path={target}", "vlm.dtype=float32")
    ended = cli("train", "stage=vanilla", *small, *vlm, f"out={tmp_path}")
    assert ended.code == 0, ended.err
    (summary,) = tmp_path.glob("*/vanilla-*/summary.json")
    assert cli("evaluate", f"run={summary.parent}").code == 0
