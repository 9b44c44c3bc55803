"""Where exemplars come from: every source gives each image its own, another image's, or the same."""

from __future__ import annotations

import weakref

import pytest
import torch

from vitask.errors import UsageError, VitaskError
from vitask.tsm import (
    CONTENTS,
    ConstantExemplars,
    ImageSet,
    ShuffledExemplars,
    TSMExemplars,
    VectorExemplars,
    build_transform,
)


def image_set(images=(), count: int = 0, sets=None, fingerprint=None) -> ImageSet:
    count = count or len(images)
    return ImageSet(images, [(f"{row}",) for row in range(count)], sets or [range(count)], fingerprint)


def vectors(count: int, tokens: int = 2, width: int = 5) -> VectorExemplars:
    """The vectors of image i hold the value i."""
    values = torch.arange(count).float().view(-1, 1, 1).expand(-1, tokens, width)
    return VectorExemplars("table", [f"{row}" for row in range(count)], values)


def owners(found) -> list[int]:
    return [int(found[row].unique()) for row in range(len(found))]


@pytest.mark.parametrize("kind", ["cls", "patches"])
def test_a_tsm_gives_its_features_and_keeps_those_of_a_data_set(kind, tsm, images, tmp_path):
    pixels = torch.stack([build_transform(tsm.data_config, None, training=False)(image) for image in images])
    source = TSMExemplars(tsm, kind, cache_dir=tmp_path, batch_size=3)
    for fingerprint, files in ((None, 0), ("here", 1)):
        shown = image_set(images, fingerprint=fingerprint)
        assert source(shown).shape == (len(images), source.num_tokens, source.feature_dim)
        with torch.no_grad():
            torch.testing.assert_close(source(shown), tsm.features(pixels, kind))
            torch.testing.assert_close(source.logits(shown), tsm(pixels))
        assert len(list(tmp_path.iterdir())) == files


def test_what_was_computed_is_not_computed_again(resnet, images, tmp_path, monkeypatch):
    source, shown = TSMExemplars(resnet, "cls", cache_dir=tmp_path), image_set(images)
    first = source(shown)
    monkeypatch.setattr(type(resnet), "features_and_logits", None)
    assert source(shown) is first
    assert len(source.logits(shown)) == len(images)
    held = weakref.ref(shown)
    del shown
    assert held() is None, "images that nobody uses any longer are let go"


def test_vectors_are_found_by_the_first_name_that_is_there():
    source = vectors(4)
    shown = ImageSet([None] * 3, [("x", "3"), ("0",), ("y", "2", "1")], [range(3)])
    assert owners(source(shown)) == [3, 0, 2]
    assert (source.num_tokens, source.feature_dim) == (2, 5)


def test_images_without_a_vector_are_counted_and_the_first_is_named():
    with pytest.raises(VitaskError, match=r"table: has no vector of 2 of 4 images, the first is '2'.* like '0'"):
        vectors(2)(image_set(count=4))
    shown = ImageSet([None] * 2, [("a", "1"), ("b", "1")], [range(2)])
    with pytest.raises(VitaskError, match="the id '1' fits several images"):
        vectors(2)(shown)


@pytest.mark.parametrize("sets", [[range(9)], [range(2), range(2, 2), range(2, 7), range(7, 9)]])
def test_shuffled_is_a_derangement_within_each_data_set_that_the_seed_fixes(sets):
    shown = image_set(count=9, sets=sets)
    orders = [owners(ShuffledExemplars(vectors(9), seed)(shown)) for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 1
    for order in orders:
        assert all(owner != row for row, owner in enumerate(order))
        for rows in sets:
            assert sorted(order[rows.start : rows.stop]) == list(rows)


def test_one_image_alone_has_no_other():
    with pytest.raises(UsageError, match="a data set of one image"):
        ShuffledExemplars(vectors(3), 0)(image_set(count=3, sets=[range(1), range(1, 3)]))


@pytest.mark.parametrize(("tokens", "width"), [(1, 2), (1, 96), (7, 8), (49, 96), (5, 3)])
def test_the_constant_is_the_same_for_all_and_the_connectors_norm_keeps_it(tokens, width):
    source = ConstantExemplars(tokens, width)
    found = source(image_set(count=3))
    assert len(found) == 3
    assert torch.equal(found[0], found[2])
    vector = found[0].double()
    assert vector.shape == (tokens, width)
    torch.testing.assert_close(vector.norm(dim=-1), torch.ones(tokens).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(vector.mean(-1), torch.zeros(tokens).double(), rtol=0, atol=1e-6)
    if tokens < width:
        torch.testing.assert_close(vector @ vector.T, torch.eye(tokens).double(), rtol=0, atol=1e-6)
    normed = torch.nn.LayerNorm(width, eps=0)(found[0])
    torch.testing.assert_close(normed, found[0] * width**0.5, rtol=1e-4, atol=1e-4)


def test_every_content_has_the_shape_of_its_source():
    shown, source = image_set(count=4), vectors(4, tokens=3, width=6)
    for content, change in CONTENTS.items():
        changed = change(source, 0)
        assert (changed.num_tokens, changed.feature_dim) == (3, 6), content
        assert all(changed(shown)[row].shape == (3, 6) for row in range(4)), content
    assert owners(CONTENTS["image"](source, 0)(shown)) == [0, 1, 2, 3]
