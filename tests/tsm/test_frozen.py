"""What of a TSM trains: a head on a frozen encoder, or nothing, and then there is no head at all."""

from __future__ import annotations

import pytest
import torch

from vitask.tsm import TSM, build_transform, cached_exemplars, load_tsm, save_tsm

from .tiny import TINY, make_tsm


@pytest.mark.parametrize("layout", TINY)
def test_a_frozen_encoder_leaves_the_head_alone_to_train(layout, pixels):
    tsm = make_tsm(layout).freeze_encoder()
    before = {name: value.clone() for name, value in tsm.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in tsm.parameters() if p.requires_grad], 0.5)
    tsm.train()
    tsm(pixels).square().sum().backward()
    optimizer.step()
    changed = {name for name, value in tsm.state_dict().items() if not torch.equal(value, before[name])}
    head = dict(tsm.backbone.get_classifier().named_parameters())
    assert {name.rpartition(".")[2] for name in changed} == {"weight", "bias"}
    assert len(changed) == len(head) == 2
    assert sum(p.numel() for p in tsm.parameters() if p.requires_grad) == sum(p.numel() for p in head.values())


def test_both_heads_of_a_distilled_model_train():
    small = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 32, "num_heads": 2}
    tsm = TSM("deit_tiny_distilled_patch16_224", 3, model_args=small).freeze_encoder()
    trained = [name for name, parameter in tsm.named_parameters() if parameter.requires_grad]
    assert trained == [f"backbone.{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")]


@pytest.mark.parametrize("layout", TINY)
@pytest.mark.parametrize("kind", ["cls", "patches"])
def test_an_encoder_without_a_head_has_the_same_features_and_no_logits(layout, kind, pixels, images, tmp_path):
    whole, bare = make_tsm(layout).eval(), make_tsm(layout, num_classes=0).eval()
    bare.load_state_dict(whole.state_dict(), strict=False)
    features, logits = bare.features_and_logits(pixels, kind)
    assert torch.equal(features, whole.features(pixels, kind))
    assert logits.shape == bare(pixels).shape == (5, 0)
    save_tsm(bare, tmp_path / "tsm", {"labels": ["a", "b"]})
    loaded, _ = load_tsm(tmp_path / "tsm", {"labels": ["a", "b"]})
    assert torch.equal(loaded.features(pixels, kind), features)
    transform = build_transform(loaded.data_config, None, training=False)
    table = cached_exemplars(
        loaded, images, kind=kind, transform=transform, data_fingerprint="x", cache_dir=tmp_path / "cache"
    )
    assert table.logits.shape == (7, 0)
    with torch.no_grad():
        torch.testing.assert_close(table.features[2:3], loaded.features(transform(images[2])[None], kind))
