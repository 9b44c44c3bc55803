from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitask.errors import VitaskError
from vitask.tsm import TSM, load_tsm, save_tsm, weights_digest

from .tiny import TINY, make_tsm


def test_round_trip_is_bit_for_bit(tmp_path, tsm, pixels):
    save_tsm(tsm, tmp_path / "new" / "folder", {"labels": ["a", "b", "c"], "accuracy": 0.5})
    loaded, meta = load_tsm(tmp_path / "new" / "folder")
    assert meta == {"labels": ["a", "b", "c"], "accuracy": 0.5}
    assert loaded.architecture == tsm.architecture
    assert not loaded.training
    assert weights_digest(loaded) == weights_digest(tsm)
    assert torch.equal(loaded(pixels), tsm(pixels))
    for name, value in tsm.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].dtype == value.dtype
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["tsm.json", "tsm.safetensors"]


def test_saving_again_replaces(tmp_path):
    save_tsm(make_tsm(seed=1), tmp_path, {"labels": ["old"]})
    save_tsm(make_tsm(seed=2), tmp_path, {"labels": ["new"]})
    loaded, meta = load_tsm(tmp_path)
    assert meta["labels"] == ["new"]
    assert weights_digest(loaded) == weights_digest(make_tsm(seed=2))


def test_meta_that_json_cannot_hold_leaves_the_old_save(tmp_path, resnet):
    save_tsm(resnet, tmp_path, {})
    with pytest.raises(TypeError):
        save_tsm(make_tsm(seed=5), tmp_path, {"x": object()})
    assert weights_digest(load_tsm(tmp_path)[0]) == weights_digest(resnet)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"num_classes": 2}, "num_classes 3, this run needs 2"),
        ({"name": "resnet34"}, "name 'resnet18', this run needs 'resnet34'"),
        ({"labels": ["a", "b"]}, "labels"),
        ({"unheard_of": 1}, "unheard_of None"),
    ],
)
def test_what_differs_is_named(tmp_path, resnet, expected, words):
    save_tsm(resnet, tmp_path, {"labels": ["a", "b", "c"]})
    with pytest.raises(VitaskError, match=words):
        load_tsm(tmp_path, expected)


def test_what_is_expected_loads(tmp_path, resnet):
    save_tsm(resnet, tmp_path, {"labels": ("a", "b", "c")})
    load_tsm(
        tmp_path, {"num_classes": 3, "name": "resnet18", "labels": ("a", "b", "c"), "model_args": TINY["resnet"][1]}
    )


def test_weights_of_another_architecture(tmp_path, resnet):
    save_tsm(resnet, tmp_path, {})
    save_file(make_tsm("vit").state_dict(), tmp_path / "tsm.safetensors")
    with pytest.raises(VitaskError, match="not a resnet18 with 3 labels"):
        load_tsm(tmp_path)


def test_weights_of_another_number_of_labels(tmp_path, resnet):
    save_tsm(resnet, tmp_path, {})
    save_file(make_tsm(num_classes=5).state_dict(), tmp_path / "tsm.safetensors")
    with pytest.raises(VitaskError, match=r"2 weights differ.*fc.bias.*\(5,\).*\(3,\)"):
        load_tsm(tmp_path)


def test_weights_of_another_save(tmp_path, resnet):
    save_tsm(resnet, tmp_path, {})
    state = load_file(tmp_path / "tsm.safetensors")
    state["backbone.fc.bias"] += 1
    save_file(state, tmp_path / "tsm.safetensors")
    with pytest.raises(VitaskError, match="not the file that"):
        load_tsm(tmp_path)


def test_absent_and_damaged_files(tmp_path, resnet):
    with pytest.raises(VitaskError, match="no TSM in"):
        load_tsm(tmp_path)
    save_tsm(resnet, tmp_path, {})
    settings = (tmp_path / "tsm.json").read_text()
    for text, words in (
        ("{", "damaged"),
        ("[]", "not the settings"),
        (json.dumps({"name": "resnet18"}), "not the settings"),
    ):
        (tmp_path / "tsm.json").write_text(text)
        with pytest.raises(VitaskError, match=words):
            load_tsm(tmp_path)
    (tmp_path / "tsm.json").write_text(settings)
    weights = (tmp_path / "tsm.safetensors").read_bytes()
    (tmp_path / "tsm.safetensors").write_bytes(weights[:-10])
    with pytest.raises(VitaskError, match="absent or damaged"):
        load_tsm(tmp_path)
    (tmp_path / "tsm.safetensors").unlink()
    with pytest.raises(VitaskError, match="absent or damaged"):
        load_tsm(tmp_path)


def test_digest_sees_values_names_shapes_and_dtypes(resnet):
    digests = {weights_digest(resnet)}
    bias = resnet.backbone.fc.bias.data
    bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    digests.add(weights_digest(resnet))
    resnet.backbone.fc.weight.data = resnet.backbone.fc.weight.data.reshape(96, 3)
    digests.add(weights_digest(resnet))
    resnet.backbone.bn1.num_batches_tracked += 1
    digests.add(weights_digest(resnet))
    digests.add(weights_digest(resnet.double()))
    digests.add(weights_digest(resnet.bfloat16()))
    assert len(digests) == 6


def test_digest_knows_nothing_but_weights():
    name, model_args = TINY["resnet"]
    torch.manual_seed(0)
    one = TSM(name, 3, model_args=model_args, data_config={"input_size": 32})
    two = TSM(name, 3, model_args=model_args, data_config={"input_size": 64})
    two.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(two.train())
