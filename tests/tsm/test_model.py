from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from vitask.errors import UsageError, VitaskError
from vitask.tsm import TSM
from vitask.tsm.kinds import patch_features

from .tiny import TINY, TINY_VIT, make_tsm

PATCHES = {"resnet": (1, 96), "vit": (16, 32), "vit_without_cls": (16, 32), "swin": (16, 32)}
CLS_DIM = {"resnet": 96, "vit": 32, "vit_without_cls": 32, "swin": 32}


@pytest.mark.parametrize("layout", TINY)
def test_shapes_of_both_kinds(layout, pixels):
    tsm = make_tsm(layout).eval()
    cls, patches = tsm.features(pixels, "cls"), tsm.features(pixels, "patches")
    assert cls.shape == (5, 1, CLS_DIM[layout])
    assert patches.shape == (5, *PATCHES[layout])
    assert (tsm.num_tokens("cls"), tsm.feature_dim("cls")) == cls.shape[1:]
    assert (tsm.num_tokens("patches"), tsm.feature_dim("patches")) == patches.shape[1:]
    assert cls.dtype == patches.dtype == torch.float32


def test_cls_is_what_the_head_reads(tsm, pixels):
    feature, logits = tsm.features_and_logits(pixels, "cls")
    hidden = tsm.backbone.forward_features(pixels)
    assert torch.equal(feature[:, 0], tsm.backbone.forward_head(hidden, pre_logits=True))
    assert torch.equal(feature, tsm.features(pixels, "cls"))
    torch.testing.assert_close(tsm.backbone.get_classifier()(feature[:, 0]), tsm(pixels))
    assert torch.equal(logits, tsm(pixels))
    assert logits.shape == (5, 3)


def test_vit_patches_leave_out_the_class_token(pixels):
    tsm = make_tsm("vit").eval()
    assert torch.equal(tsm.features(pixels, "patches"), tsm.backbone.forward_features(pixels)[:, 1:])


def test_maps_become_rows_of_positions():
    """Position (i, j) of a map is token i * W + j, with its channels together, in both memory layouts."""
    hidden = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    channels_first, channels_last = nn.Identity(), nn.Identity()
    channels_last.output_fmt = "NHWC"
    assert torch.equal(patch_features(channels_first, hidden)[1, 2 * 5 + 3], hidden[1, :, 2, 3])
    assert torch.equal(patch_features(channels_last, hidden)[1, 2 * 4 + 3], hidden[1, 2, 3])
    with pytest.raises(VitaskError, match="2-D maps"):
        patch_features(channels_first, torch.zeros(2, 3))


def test_class_token_without_a_prefix_count_is_left_out():
    backbone = nn.Identity()
    backbone.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
    assert patch_features(backbone, torch.zeros(2, 10, 4)).shape == (2, 9, 4)


def test_patches_average_to_the_pooled_feature(pixels):
    tsm = make_tsm("resnet").eval()
    torch.testing.assert_close(tsm.features(pixels, "patches").mean(1), tsm.features(pixels, "cls")[:, 0])


def test_features_are_float32_under_autocast(resnet, pixels):
    with torch.autocast("cpu", torch.bfloat16):
        assert resnet.features(pixels, "cls").dtype == torch.float32


def test_asking_for_shapes_leaves_the_model_alone(resnet):
    resnet.train()
    before = {name: value.clone() for name, value in resnet.state_dict().items()}
    random = torch.get_rng_state()
    resnet.num_tokens("patches")
    assert resnet.training
    assert resnet.backbone.bn1.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in resnet.state_dict().items())


def test_freeze_holds_through_train(resnet, pixels):
    parent = nn.Sequential(resnet.freeze())
    parent.train()
    before = {name: value.clone() for name, value in resnet.state_dict().items()}
    logits = resnet(pixels)
    assert not resnet.training
    assert not resnet.backbone.bn1.training
    assert not logits.requires_grad
    assert all(torch.equal(before[name], value) for name, value in resnet.state_dict().items())


def test_data_config_follows_model_args_and_overrides():
    vit = TSM("vit_tiny_patch16_224", 2, model_args=TINY_VIT)
    assert vit.data_config["input_size"] == [3, 32, 32]
    grey = TSM(
        "resnet18",
        2,
        model_args={**TINY["resnet"][1], "in_chans": 1},
        data_config={"input_size": 28, "crop_pct": 1.0, "mean": [0.5]},
    )
    assert grey.data_config["input_size"] == [1, 28, 28]
    assert grey.data_config["mean"] == [0.5]
    assert grey.data_config["std"] == pytest.approx([(0.229 + 0.224 + 0.225) / 3])
    assert grey.data_config["crop_pct"] == 1.0
    assert TSM("resnet18", 2, data_config={"input_size": [3, 20, 24]}).data_config["input_size"] == [3, 20, 24]


@pytest.mark.parametrize("size", [[1, 28, 28], 0, [3, 28, 28, 28]])
def test_impossible_input_size(size):
    with pytest.raises(UsageError, match="input_size"):
        TSM("resnet18", 2, model_args=TINY["resnet"][1], data_config={"input_size": size})


def test_unknown_input_setting():
    with pytest.raises(UsageError, match="Did you mean 'crop_pct'"):
        TSM("resnet18", 2, model_args=TINY["resnet"][1], data_config={"crop_pc": 1.0})


def test_mean_of_the_wrong_length():
    with pytest.raises(UsageError, match="mean"):
        TSM("resnet18", 2, model_args=TINY["resnet"][1], data_config={"mean": [0.5, 0.5]})


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        TSM("resnet_18", 2)


def test_unknown_tag_suggests_the_nearest():
    with pytest.raises(UsageError, match=r"Did you mean 'resnet18\.a1_in1k'"):
        TSM("resnet18.a1_in1", 2, pretrained=True)


def test_unknown_model_argument():
    with pytest.raises(UsageError, match="embed_dims"):
        TSM("vit_tiny_patch16_224", 2, model_args={"embed_dims": 3})


def test_unknown_kind_suggests_the_nearest(resnet, pixels):
    with pytest.raises(UsageError, match="Did you mean 'patches'"):
        resnet.features(pixels, "patch")


def test_pretrained_weights_out_of_reach(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", unreachable)
    with pytest.raises(VitaskError) as caught:
        TSM("resnet18", 2, pretrained=True)
    message = str(caught.value)
    assert all(words in message for words in ("connected machine", "tsm.pretrained=false", "tsm.checkpoint"))
    assert "\n" not in message
    assert caught.value.exit_code == 1


def test_two_sources_of_weights():
    with pytest.raises(UsageError, match="exclude"):
        TSM("resnet18", 2, pretrained=True, checkpoint="x.safetensors")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("num_classes", [3, 7])
def test_local_checkpoint(tmp_path, suffix, num_classes):
    """Same head: everything comes over. Another head: the backbone does, the head starts fresh."""
    source = make_tsm("resnet", num_classes=3, seed=1).backbone.state_dict()
    path = tmp_path / f"weights.{suffix}"
    save_file(source, path) if suffix == "safetensors" else torch.save({"state_dict": source}, path)
    loaded = make_tsm("resnet", num_classes, seed=2, checkpoint=str(path)).backbone.state_dict()
    same = {
        name for name in source if source[name].shape == loaded[name].shape and torch.equal(source[name], loaded[name])
    }
    assert set(source) - same == (set() if num_classes == 3 else {"fc.weight", "fc.bias"})


def test_local_checkpoint_of_a_vit_at_another_size(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(make_tsm("vit", seed=1).backbone.state_dict(), path)
    name, model_args = TINY["vit"]
    larger = TSM(name, 3, model_args={**model_args, "img_size": 48}, checkpoint=str(path))
    assert larger.num_tokens("patches") == 36


def test_checkpoints_that_cannot_be_used(tmp_path):
    with pytest.raises(VitaskError, match="no TSM weights at"):
        make_tsm(checkpoint=str(tmp_path / "absent.safetensors"))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not weights")
    with pytest.raises(VitaskError, match="does not load"):
        make_tsm(checkpoint=str(damaged))
    other = tmp_path / "other.safetensors"
    save_file(make_tsm("vit").backbone.state_dict(), other)
    with pytest.raises(VitaskError, match="another architecture"):
        make_tsm(checkpoint=str(other))
    partial = tmp_path / "partial.safetensors"
    state = make_tsm().backbone.state_dict()
    save_file({name: value for name, value in state.items() if not name.startswith("layer3")}, partial)
    with pytest.raises(VitaskError, match=r"another architecture.*layer3"):
        make_tsm(checkpoint=str(partial))
    wide = tmp_path / "wide.safetensors"
    save_file(timm.create_model("resnet18", num_classes=3, layers=[1, 1, 1, 1]).state_dict(), wide)
    with pytest.raises(VitaskError, match="size mismatch"):
        make_tsm(checkpoint=str(wide))


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(VitaskError, match="does not load"):
        make_tsm(checkpoint=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()
