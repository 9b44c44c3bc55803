"""LoRA's relatives and full fine-tuning: exactly the intended weights train, and what is saved is what was trained."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitask.config.compose import compose_config
from vitask.config.tuning import check_tuning, load_base
from vitask.errors import UsageError, VitaskError
from vitask.export.write import merge
from vitask.vlm import load
from vitask.vlm.adapt import LANGUAGE_MODEL, LORA, add_lora, assert_trainable, train_fully, trainable_groups
from vitask.vlm.families import InternVL
from vitask.vlm.load import TINY_FOLDER, load_pretrained
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.saving import WEIGHTS, load_weights, save_vlm

from .tiny import make_batch, make_hf, make_vlm, randomise

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (vitask[qlora])"
)


def training(module: torch.nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def fully_tuned(text: str = "qwen2", **options: bool) -> ExemplarVLM:
    return ExemplarVLM(train_fully(make_hf(text), InternVL(), **options), InternVL()).eval()


def changed(vlm: ExemplarVLM) -> ExemplarVLM:
    """The same model after a large step of training."""
    randomise((p for p in vlm.parameters() if p.requires_grad), seed=7)
    return vlm


def logits(vlm: ExemplarVLM) -> torch.Tensor:
    with torch.no_grad():
        return vlm(make_batch(vlm, ["vanilla"]))["vanilla"]


@pytest.mark.parametrize("text", ["qwen2", "llama"])
def test_full_tuning_trains_the_language_model_and_its_output_layer_alone(text):
    vlm = fully_tuned(text)
    every = {name for name, _ in vlm.named_parameters()}
    language = {name for name in every if name.startswith("vlm.model.language_model.")}
    output = set() if text == "qwen2" else {"vlm.lm_head.weight"}  # qwen2's is the embedding
    assert training(vlm) == language | output
    assert {"vlm.model.language_model.embed_tokens.weight", "vlm.model.language_model.norm.weight"} < language
    assert_trainable(vlm, connector=False, tower=False, projector=False, full=True)
    assert set(trainable_groups(vlm)) == {LANGUAGE_MODEL}
    with pytest.raises(VitaskError, match="trains but should not"):
        assert_trainable(vlm, connector=False, tower=False, projector=False)


@pytest.mark.parametrize(("option", "part"), [("train_tower", "vision tower"), ("train_projector", "projector")])
def test_image_modules_join_full_tuning_only_when_asked(option, part):
    vlm = fully_tuned(**{option: True})
    path = InternVL.vision_tower if part == "vision tower" else InternVL.projector[0]
    more = {name for name, _ in vlm.named_parameters() if name.startswith(f"vlm.{path}.")}
    assert training(vlm) == training(fully_tuned()) | more
    assert set(trainable_groups(vlm)) == {LANGUAGE_MODEL, part}
    wanted = {"tower": option == "train_tower", "projector": option == "train_projector"}
    assert_trainable(vlm, connector=False, full=True, **wanted)


def test_one_frozen_weight_of_a_fully_tuned_model_is_named():
    vlm = fully_tuned()
    vlm.vlm.model.language_model.norm.weight.requires_grad = False
    with pytest.raises(VitaskError, match=r"language_model\.norm\.weight does not train but should"):
        assert_trainable(vlm, connector=False, tower=False, projector=False, full=True)


def test_a_gradient_reaches_every_weight_of_full_tuning_and_no_other():
    vlm = fully_tuned("llama")
    vlm(make_batch(vlm, ["vanilla"]))["vanilla"].square().sum().backward()
    assert {name for name, p in vlm.named_parameters() if p.grad is not None} == training(vlm)


def test_full_weights_are_saved_alone_and_loaded_bit_for_bit(tmp_path):
    trained = changed(fully_tuned())
    save_vlm(trained, tmp_path / "model", {})
    assert {path.name for path in (tmp_path / "model").iterdir()} == {WEIGHTS, "vitask.json"}
    stored = load_file(tmp_path / "model" / WEIGHTS)
    assert {f"vlm.{name}" for name in stored} == training(trained)
    fresh = fully_tuned()
    assert not torch.equal(logits(fresh), logits(trained))
    load_weights(fresh, tmp_path / "model")
    assert torch.equal(logits(fresh), logits(trained))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: {name: tensor for name, tensor in t.items() if "norm.weight" not in name}, "does not match on"),
        (lambda t: {name: tensor[:1] for name, tensor in t.items()}, "has the shape"),
    ],
)
def test_weights_of_another_model_are_refused(spoil, words, tmp_path):
    save_vlm(fully_tuned(), tmp_path / "model", {})
    save_file(spoil(load_file(tmp_path / "model" / WEIGHTS)), tmp_path / "model" / WEIGHTS)
    with pytest.raises(VitaskError, match=words):
        load_weights(fully_tuned(), tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(VitaskError, match="damaged"):
        load_weights(fully_tuned(), tmp_path / "model")


def test_an_adapter_is_no_full_tuning_and_the_other_way_round(tmp_path):
    save_vlm(fully_tuned(), tmp_path / "full", {})
    save_vlm(make_vlm(None), tmp_path / "lora", {})
    with pytest.raises(VitaskError, match="holds no tuned VLM"):
        load_weights(make_vlm(None), tmp_path / "full")
    with pytest.raises(VitaskError, match="holds no weights of a tuned VLM"):
        load_weights(fully_tuned(), tmp_path / "lora")


def test_before_tuning_a_fully_tuned_model_answers_as_the_base_does_and_afterwards_as_before():
    model, base = train_fully(make_hf(), InternVL()), make_hf()
    original = {name: p.detach() for name, p in base.named_parameters() if name.startswith("model.language_model.")}
    vlm = changed(ExemplarVLM(model, InternVL(), original=lambda: original).eval())
    tuned = logits(vlm)
    with vlm.untuned():
        assert torch.equal(logits(vlm), logits(ExemplarVLM(base, InternVL()).eval()))
    assert torch.equal(logits(vlm), tuned)
    with pytest.raises(RuntimeError), vlm.untuned():
        raise RuntimeError
    assert torch.equal(logits(vlm), tuned)


def adapted(**options: bool) -> ExemplarVLM:
    model = add_lora(make_hf(), InternVL(), rank=4, alpha=8, **options)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
        elif "magnitude" in name:
            parameter.data = parameter.data * (0.5 + torch.rand(parameter.shape, generator=generator))
    return ExemplarVLM(model, InternVL()).eval()


def test_dora_trains_one_length_a_layer_beside_lora():
    vlm, plain = adapted(dora=True), adapted()
    lengths = {name for name in training(vlm) if "lora_magnitude_vector" in name}
    assert (len(lengths), training(vlm) - lengths) == (14, training(plain))
    assert_trainable(vlm, connector=False, tower=False, projector=False)
    assert set(trainable_groups(vlm)) == {LORA}


def test_what_dora_merges_is_length_times_direction():
    vlm, base = adapted(dora=True), make_hf()
    before, path = logits(vlm), "model.language_model.layers.1.mlp.down_proj"
    layer = vlm.base.get_submodule(path)
    wide = {part: getattr(layer, f"lora_{part}")["default"].weight.double() for part in "AB"}
    length = layer.lora_magnitude_vector["default"].weight.double()
    moved = base.get_submodule(path).weight.double() + 2.0 * wide["B"] @ wide["A"]
    expected = length[:, None] * moved / moved.norm(dim=1, keepdim=True)
    merged = merge(vlm.vlm)
    assert torch.allclose(merged.get_submodule(path).weight.double(), expected, atol=1e-6)
    assert torch.allclose(logits(ExemplarVLM(merged, InternVL()).eval()), before, atol=1e-4)


def test_rslora_divides_by_the_root_of_the_rank():
    scales = {m.scaling["default"] for m in adapted(rslora=True).modules() if hasattr(m, "lora_A")}
    assert scales == {8 / 4**0.5}


@pytest.mark.parametrize("option", ["dora", "rslora"])
def test_a_relative_of_lora_is_saved_and_loaded_bit_for_bit(option, tmp_path):
    trained = adapted(**{option: True})
    save_vlm(trained, tmp_path / "model", {})
    fresh = ExemplarVLM(add_lora(make_hf(), InternVL(), rank=4, alpha=8, **{option: True}), InternVL()).eval()
    load_weights(fresh, tmp_path / "model")
    assert torch.equal(logits(fresh), logits(trained))


@pytest.mark.parametrize("override", ["lora.dora=true", "lora.rslora=true", "lora.quantize=nf4"])
def test_an_option_of_an_adapter_without_one_is_a_wrong_request(override):
    config = compose_config("train", ["lora=full", override])
    with pytest.raises(UsageError, match=rf"lora\.tune=all .* leave {override} out"):
        check_tuning(config.lora)


def test_four_bits_without_bitsandbytes_are_a_wrong_request(monkeypatch):
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs bitsandbytes.*vitask\[qlora\]"):
        check_tuning(compose_config("train", ["lora=qlora"]).lora)
    with pytest.raises(UsageError, match="needs bitsandbytes"):
        load_pretrained("tiny", quantize="nf4")


def test_the_settings_of_qlora_reach_from_pretrained(monkeypatch):
    import transformers

    seen = {}

    def noted(source: str, **options) -> SimpleNamespace:
        seen.update(options)
        raise ValueError("far enough")

    monkeypatch.setattr(load, "find_spec", lambda name: object())
    monkeypatch.setattr(transformers.utils.import_utils, "is_bitsandbytes_available", lambda *_: True)
    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", noted)
    with pytest.raises(VitaskError, match="far enough"):
        load_base(compose_config("train", ["lora=qlora", "vlm.dtype=bfloat16"]))
    asked = seen["quantization_config"]
    assert (asked.load_in_4bit, asked.bnb_4bit_quant_type, asked.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert asked.bnb_4bit_compute_dtype == torch.bfloat16
    assert asked.llm_int8_skip_modules == [InternVL.vision_tower, *InternVL.projector, "lm_head"]
    with pytest.raises(VitaskError):
        load_base(compose_config("train", []))
    assert "quantization_config" in seen


@needs_bitsandbytes
def test_four_bits_hold_the_language_model_s_linear_layers_alone_and_become_plain_again():
    model, _ = load_pretrained("tiny", quantize="nf4")
    in_bits = {name for name, m in model.named_modules() if type(m).__name__ == "Linear4bit"}
    assert len(in_bits) == 14
    assert all(name.startswith("model.language_model.layers.") for name in in_bits)
    plain, _ = load_pretrained("tiny", quantize="nf4", dequantize=True)
    assert not any(type(m).__name__ == "Linear4bit" for m in plain.modules())
    ids = torch.arange(5, 15)[None]
    with torch.enable_grad():  # without gradients, kernels of the CPU round to half precision
        assert torch.allclose(model(input_ids=ids).logits, plain(input_ids=ids).logits, atol=1e-5)
    base = load_file(TINY_FOLDER / "model.safetensors")["language_model.model.layers.0.mlp.up_proj.weight"]
    moved = (plain.model.language_model.layers[0].mlp.up_proj.weight - base).abs()
    assert 0 < moved.mean() < 0.2 * base.abs().mean()
