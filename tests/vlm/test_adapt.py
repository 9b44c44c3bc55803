from __future__ import annotations

import pytest
import torch

from vitask.errors import UsageError, VitaskError
from vitask.vlm.adapt import add_lora, assert_trainable, tower_parameters, trainable_groups
from vitask.vlm.families import InternVL

from .tiny import make_hf, make_vlm

ROOT = "vlm.base_model.model.model."
TARGETS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
LORA = {
    f"{ROOT}language_model.layers.{layer}.{block}.{target}.lora_{side}.default.weight"
    for layer in range(2)
    for block, targets in TARGETS.items()
    for target in targets
    for side in "AB"
}
CONNECTOR = {f"connector.{n}" for n in ("norm.weight", "norm.bias")} | {
    f"connector.project.{i}.{n}" for i in (0, 2) for n in ("weight", "bias")
}


def copies(path: str) -> set[str]:
    part = dict(make_hf().named_parameters())
    prefix = f"{path}."
    return {
        f"{ROOT}{path.removeprefix('model.')}.modules_to_save.default.{name.removeprefix(prefix)}"
        for name in part
        if name.startswith(prefix)
    }


def training(vlm) -> set[str]:
    return {name for name, p in vlm.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("text", ["qwen2", "llama"])
def test_by_default_lora_and_connector_train_and_nothing_else(text):
    vlm = make_vlm(model=make_hf(text))
    assert training(vlm) == LORA | CONNECTOR
    assert_trainable(vlm, connector=True, tower=False, projector=False)
    assert not any(".lora_" in name for name, _ in vlm.named_parameters() if "language_model" not in name)


@pytest.mark.parametrize(
    ("option", "path", "part"),
    [("train_tower", InternVL.vision_tower, "vision tower"), ("train_projector", InternVL.projector[0], "projector")],
)
def test_full_copies_train_only_when_asked(option, path, part):
    vlm = make_vlm(**{option: True})
    assert training(vlm) == LORA | CONNECTOR | copies(path)
    wanted = {"tower": option == "train_tower", "projector": option == "train_projector"}
    assert_trainable(vlm, connector=True, **wanted)
    assert set(trainable_groups(vlm)) == {"LoRA on the language model", "connector", part}
    with pytest.raises(VitaskError, match="trains but should not"):
        assert_trainable(vlm, connector=True, tower=False, projector=False)
    found = {id(parameter) for parameter in tower_parameters(vlm)}
    tower = {id(p) for n, p in vlm.named_parameters() if n in copies(path)} if option == "train_tower" else set()
    assert found == tower


def test_frozen_connector_leaves_lora_alone():
    vlm = make_vlm()
    vlm.connector.requires_grad_(False)
    assert training(vlm) == LORA
    assert_trainable(vlm, connector=False, tower=False, projector=False)
    with pytest.raises(VitaskError, match=r"connector\..* does not train but should"):
        assert_trainable(vlm, connector=True, tower=False, projector=False)


def test_groups_count_tensors_and_parameters():
    vlm = make_vlm()
    lora = [p for name, p in vlm.named_parameters() if ".lora_" in name]
    assert trainable_groups(vlm) == {
        "LoRA on the language model": (len(LORA), sum(p.numel() for p in lora)),
        "connector": (6, sum(p.numel() for p in vlm.connector.parameters())),
    }


@pytest.mark.parametrize(
    ("fragment", "trains", "words"),
    [
        ("vision_tower.encoder.layer.0.layernorm_before.weight", True, "trains but should not"),
        ("embed_tokens.weight", True, "trains but should not"),
        ("layers.1.mlp.up_proj.lora_B.default.weight", False, "does not train but should"),
    ],
)
def test_one_wrong_tensor_is_named(fragment, trains, words):
    vlm = make_vlm()
    (name,) = (name for name, _ in vlm.named_parameters() if name.endswith(fragment))
    vlm.get_parameter(name).requires_grad = trains
    with pytest.raises(VitaskError, match=rf"{fragment} {words}"):
        assert_trainable(vlm, connector=True, tower=False, projector=False)
    if trains:
        with pytest.raises(VitaskError, match="belongs to no part"):
            trainable_groups(vlm)


@pytest.mark.parametrize("part", ["connector", "tower", "projector"])
def test_a_part_that_is_not_there_cannot_train(part):
    wanted = {"connector": False, "tower": False, "projector": False, part: True}
    with pytest.raises(VitaskError, match=f"{part} should train"):
        assert_trainable(make_vlm(None), **wanted)


def test_a_model_without_lora_is_noticed():
    vlm = make_vlm(None, model=make_hf().requires_grad_(False), lora=False)
    with pytest.raises(VitaskError, match="LoRA"):
        assert_trainable(vlm, connector=False, tower=False, projector=False)


@pytest.mark.parametrize("target", ["projection_layer", "fc1", "lm_head", "q_prj", "self_attn"])
def test_target_that_is_no_linear_layer_of_the_language_model_is_refused(target):
    with pytest.raises(UsageError, match=f"named {target}; it has .*q_proj"):
        add_lora(make_hf(), InternVL(), targets=["q_proj", target])


def test_rank_scale_dropout_and_targets_are_what_was_asked():
    model = add_lora(make_hf(), InternVL(), rank=3, alpha=12, dropout=0.25, targets=["v_proj"])
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert {name.removeprefix(ROOT.removeprefix("vlm.")) for name in adapted} == {
        f"language_model.layers.{layer}.self_attn.v_proj" for layer in range(2)
    }
    for module in adapted.values():
        assert module.scaling["default"] == 4
        assert module.lora_A["default"].out_features == 3
        assert module.lora_dropout["default"].p == 0.25
        assert torch.equal(module.lora_B["default"].weight, torch.zeros(16, 3))
