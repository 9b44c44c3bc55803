from __future__ import annotations

import random
import warnings

import pytest
import torch

from vitask.vlm import image_cache

from ..test_files import is_mapped_from
from . import caching
from .caching import COUNTS, SHAPE, call, encode, files, make_inputs, no_encode, unfinished
from .tiny import WIDTH, make_vlm


class Untouchable:
    """A sequence of which only the length may be asked."""

    def __len__(self):
        return len(COUNTS)

    def __getitem__(self, index):
        raise AssertionError("looked at")


class TestFeatures:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
    def test_come_back_bit_by_bit_whatever_the_batch_size(self, tmp_path, dtype):
        expected = [encode([one]).to(dtype) for one in make_inputs()]
        for batch_size in (1, 3, 64):
            folder = tmp_path / str(batch_size)
            for _ in "computed", "read":
                features = call(folder, lambda inputs: encode(inputs).to(dtype), dtype=dtype, batch_size=batch_size)
                assert len(features) == len(COUNTS)
                assert features.token_counts == COUNTS
                assert features[0].dtype == dtype
                assert all(torch.equal(features[i], one) for i, one in enumerate(expected))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
    def test_are_the_live_features_of_the_model(self, tmp_path, dtype):
        vlm = make_vlm().to(dtype)
        tiles = [1, 3, 2, 1]
        generator = torch.Generator().manual_seed(0)
        inputs = [{"pixel_values": torch.randn(n, 3, 32, 32, generator=generator).to(dtype)} for n in tiles]

        def live(some):
            images = {"pixel_values": torch.cat([one["pixel_values"] for one in some])}
            return vlm.encode_images(images).view(-1, 1, WIDTH)

        counts = [16 * n for n in tiles]
        features = call(tmp_path, live, inputs, counts, shape=(1, WIDTH), dtype=dtype, batch_size=2)
        expected = torch.cat([live(inputs[:2]), live(inputs[2:])]).split(counts)
        assert all(torch.equal(features[i], one) for i, one in enumerate(expected))
        assert expected[0].std() > 0.01

    def test_are_mapped_not_read(self, tmp_path):
        features = call(tmp_path)
        (path,) = files(tmp_path)
        assert is_mapped_from(features.values, path)
        assert is_mapped_from(features[4], path)

    def test_gathered_ones_are_a_copy(self, tmp_path):
        features = call(tmp_path)
        for indices in ([4, 0, 4], [5], []):
            gathered = features.gather(indices)
            expected = [features[i] for i in indices]
            assert torch.equal(gathered, torch.cat(expected) if expected else torch.zeros(0, *SHAPE))
            assert not is_mapped_from(gathered, files(tmp_path)[0])

    @pytest.mark.parametrize("index", [-1, len(COUNTS)])
    def test_no_image_is_guessed(self, tmp_path, index):
        with pytest.raises(IndexError, match=f"no image {index}"):
            call(tmp_path)[index]


class TestComputing:
    def test_a_hit_looks_at_nothing(self, tmp_path):
        first = call(tmp_path)
        second = call(tmp_path, no_encode, Untouchable(), Untouchable())
        assert torch.equal(first.values, second.values)
        assert len(files(tmp_path)) == 1

    def test_is_in_inference_mode_and_leaves_the_random_state_alone(self, tmp_path):
        before = torch.get_rng_state(), random.getstate()
        weight = torch.ones(1, requires_grad=True)
        modes = []

        def with_weight(inputs):
            modes.append(torch.is_inference_mode_enabled())
            return encode(inputs) * weight

        assert not call(tmp_path, with_weight).values.requires_grad
        assert modes == [True, True, True]
        assert not torch.is_inference_mode_enabled()
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == random.getstate()

    def test_workers_make_the_inputs(self, tmp_path):
        assert torch.equal(call(tmp_path / "a", workers=2).values, call(tmp_path / "b").values)

    def test_a_bar_is_shown_only_for_many_images(self, tmp_path, capfd, monkeypatch):
        assert image_cache.BAR_FROM == 1000
        monkeypatch.setattr(image_cache, "BAR_FROM", 6)
        for size, progress, shown in ((7, False, False), (6, True, False), (7, True, True)):
            call(tmp_path / f"{size}-{progress}", counts=COUNTS[:size], progress=progress)
            assert ("image features" in capfd.readouterr().out) == shown

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda x: x[1:], "images 0 to 2 have 8 image tokens, but became 7 features"),
            (lambda x: x.double(), "float64"),
            (lambda x: x[:, :1], r"\(8, 1, 3\)"),
        ],
    )
    def test_wrong_features_are_refused(self, tmp_path, change, told):
        with pytest.raises(ValueError, match=told):
            call(tmp_path, lambda inputs: change(encode(inputs)))
        assert files(tmp_path) == unfinished(tmp_path) == []

    def test_a_failure_halfway_leaves_nothing_and_no_lock(self, tmp_path):
        def fail(inputs):
            if inputs[0]["pixels"][0, 0] > 3:
                raise RuntimeError("out of memory")
            return encode(inputs)

        with pytest.raises(RuntimeError, match="out of memory"):
            call(tmp_path, fail)
        assert files(tmp_path) == unfinished(tmp_path) == []
        assert call(tmp_path) is not None


class TestDamage:
    @pytest.mark.parametrize("place", ["empty", "header", "offsets", "values", "digest", "truncated", "garbage"])
    def test_is_computed_again_with_a_warning(self, tmp_path, place):
        good = call(tmp_path).values.clone()
        (path,) = files(tmp_path)
        data = bytearray(path.read_bytes())
        if place in ("empty", "truncated", "garbage"):
            data = {"empty": b"", "truncated": data[:-40], "garbage": b"x" * 500}[place]
        else:
            start = 8 + int.from_bytes(data[:8], "little")
            data[{"header": 3, "offsets": start + 8, "values": len(data) - 40, "digest": len(data) - 5}[place]] ^= 1
        path.write_bytes(data)
        with pytest.warns(RuntimeWarning, match="damaged") as told:
            assert torch.equal(call(tmp_path).values, good)
        assert told[0].filename == caching.__file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(tmp_path, no_encode)
