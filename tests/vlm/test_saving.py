from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from vitask.errors import VitaskError
from vitask.vlm import saving
from vitask.vlm.adapt import add_lora
from vitask.vlm.connector import Connector
from vitask.vlm.families import InternVL
from vitask.vlm.inputs import Placement
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.saving import load_head, load_weights, save_vlm

from .tiny import EXEMPLAR_DIM, WIDTH, full_logits, make_batch, make_hf, make_vlm, randomise

ADAPTER_FILE = "adapter/adapter_model.safetensors"


def fresh(seed: int = 9, rank: int = 4, dim: int = EXEMPLAR_DIM, kind: str = "mlp", **options) -> ExemplarVLM:
    """What the configuration builds before weights are loaded."""
    model = add_lora(make_hf(), InternVL(), rank=rank, alpha=8, **options)
    torch.manual_seed(seed)
    return ExemplarVLM(model, InternVL(), Connector(dim, WIDTH, kind), Placement("after_image", 1)).eval()


@torch.no_grad()
def logits(vlm: ExemplarVLM) -> dict[str, torch.Tensor]:
    return vlm(make_batch(vlm, ["vanilla", "exemplar"]))


@pytest.mark.parametrize("options", [{}, {"train_tower": True}, {"train_projector": True}], ids=str)
def test_round_trip_is_bit_for_bit(tmp_path, options):
    vlm = make_vlm(**options)
    randomise((p for p in vlm.parameters() if p.requires_grad), seed=6)
    save_vlm(vlm, tmp_path / "new" / "model", {"base": "tiny"})
    loaded = fresh(**options)
    assert not torch.equal(logits(loaded)["vanilla"], logits(vlm)["vanilla"])
    load_weights(loaded, tmp_path / "new" / "model")
    for name, parameter in vlm.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter), name
        assert loaded.get_parameter(name).requires_grad == parameter.requires_grad
    expected = logits(vlm)
    assert all(torch.equal(value, expected[name]) for name, value in logits(loaded).items())


def test_folder_holds_an_adapter_a_connector_a_description_and_no_pickle(tmp_path):
    save_vlm(make_vlm(), tmp_path / "model", {"base": "tiny", "labels": ["a"]})
    files = {str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert files - {"adapter/README.md"} == {
        "adapter/adapter_config.json",
        ADAPTER_FILE,
        "connector.safetensors",
        "vitask.json",
    }
    assert json.loads((tmp_path / "model/vitask.json").read_text()) == {"base": "tiny", "labels": ["a"]}
    assert all(".lora_" in name for name in load_file(tmp_path / "model" / ADAPTER_FILE))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    save_vlm(make_vlm(None), tmp_path / "model", {})
    assert not (tmp_path / "model/connector.safetensors").exists()


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"train_tower": True, "train_projector": True}], ids=str)
def test_peft_alone_loads_the_adapter_and_answers_the_same(tmp_path, options):
    vlm = make_vlm(**options)
    randomise((p for p in vlm.parameters() if p.requires_grad), seed=6)
    save_vlm(vlm, tmp_path / "model", {})
    plain = PeftModel.from_pretrained(make_hf(), tmp_path / "model" / "adapter").eval()
    batch = make_batch(vlm, ["vanilla"])
    branch = batch["branches"]["vanilla"]
    inputs = {key: branch[key] for key in ("input_ids", "attention_mask")}
    real = inputs["attention_mask"] == 1
    assert torch.equal(plain(**inputs, **batch["images"]).logits[real], full_logits(vlm, batch, "vanilla")[real])


def test_vanilla_model_loads_from_a_model_with_connector(tmp_path):
    save_vlm(make_vlm(), tmp_path / "both", {})
    without = make_vlm(None)
    randomise((p for p in without.parameters() if p.requires_grad), seed=8)
    load_weights(without, tmp_path / "both")
    assert torch.equal(*(vlm(make_batch(vlm, ["vanilla"]))["vanilla"] for vlm in (without, make_vlm())))


def test_model_with_connector_refuses_a_folder_without_one(tmp_path):
    save_vlm(make_vlm(None), tmp_path / "adapter only", {})
    with pytest.raises(VitaskError, match=r"connector\.safetensors"):
        load_weights(fresh(), tmp_path / "adapter only")


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({"rank": 2}, "adapter"),
        ({"targets": ["q_proj"]}, "adapter"),
        ({"train_tower": True}, "adapter"),
        ({"kind": "linear"}, "connector.safetensors"),
        ({"dim": 7}, "connector.safetensors"),
    ],
    ids=str,
)
def test_weights_of_another_architecture_are_refused_by_file(tmp_path, options, file):
    save_vlm(make_vlm(), tmp_path / "model", {})
    with pytest.raises(VitaskError, match=f"model/{file}: damaged, or saved from another architecture") as error:
        load_weights(fresh(**options), tmp_path / "model")
    assert "\n" not in str(error.value)


def test_copies_that_the_configuration_does_not_build_are_refused(tmp_path):
    save_vlm(make_vlm(train_projector=True), tmp_path / "model", {})
    with pytest.raises(VitaskError, match=r"adapter: .*multi_modal_projector"):
        load_weights(fresh(), tmp_path / "model")


@pytest.mark.parametrize("file", [ADAPTER_FILE, "connector.safetensors"])
def test_damaged_files_are_named(tmp_path, file):
    save_vlm(make_vlm(), tmp_path / "model", {})
    path = tmp_path / "model" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VitaskError, match=f"model/{file.split('/')[0]}: damaged"):
        load_weights(fresh(), tmp_path / "model")


def test_absent_tensors_and_files_are_noticed(tmp_path):
    save_vlm(make_vlm(), tmp_path / "model", {})
    weights = load_file(tmp_path / "model" / ADAPTER_FILE)
    name = sorted(weights)[0]
    save_file({key: value for key, value in weights.items() if key != name}, tmp_path / "model" / ADAPTER_FILE)
    with pytest.raises(VitaskError, match="does not match"):
        load_weights(fresh(), tmp_path / "model")
    (tmp_path / "model" / ADAPTER_FILE).unlink()
    with pytest.raises(VitaskError, match="model/adapter"):
        load_weights(fresh(), tmp_path / "model")
    with pytest.raises(VitaskError, match="holds no tuned VLM"):
        load_weights(fresh(), tmp_path / "nothing")


def test_an_interrupted_save_leaves_the_old_one(tmp_path, monkeypatch):
    save_vlm(make_vlm(), tmp_path / "model", {"run": 1})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_vlm(fresh(), tmp_path / "model", {"run": 2})
    monkeypatch.undo()
    loaded = fresh()
    load_weights(loaded, tmp_path / "model")
    assert torch.equal(logits(loaded)["exemplar"], logits(make_vlm())["exemplar"])
    assert json.loads((tmp_path / "model/vitask.json").read_text()) == {"run": 1}
    save_vlm(fresh(), tmp_path / "model", {"run": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_linear_head_is_saved_beside_the_adapter_and_loaded_into_one_of_its_shape(tmp_path):
    head = torch.nn.Linear(4, 3)
    save_vlm(make_vlm(None), tmp_path / "model", {}, head=head)
    assert not (tmp_path / "model/connector.safetensors").exists()
    other = torch.nn.Linear(4, 3)
    load_head(other, tmp_path / "model")
    assert torch.equal(other.weight, head.weight)
    assert torch.equal(other.bias, head.bias)
    with pytest.raises(VitaskError, match=r"head\.safetensors: damaged, or saved from another architecture"):
        load_head(torch.nn.Linear(4, 2), tmp_path / "model")
    save_vlm(make_vlm(None), tmp_path / "model", {})
    with pytest.raises(VitaskError, match=r"head\.safetensors"):
        load_head(other, tmp_path / "model")
