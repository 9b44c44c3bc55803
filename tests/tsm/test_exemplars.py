from __future__ import annotations

import multiprocessing
import random
import warnings

import pytest
import torch
from safetensors import safe_open
from torchvision.transforms import Compose, Lambda

from vitask.errors import UsageError
from vitask.tsm import TSM, build_transform, cached_exemplars, exemplar_key, exemplars

from .tiny import TINY, make_tsm


def compute(tsm, images, folder, kind="cls", fingerprint="digits/train", transform=None, **options):
    transform = transform or build_transform(tsm.data_config, None, training=False)
    return cached_exemplars(
        tsm, images, kind=kind, transform=transform, data_fingerprint=fingerprint, cache_dir=folder, **options
    )


def files(folder):
    return sorted(path for path in folder.iterdir())


@pytest.fixture
def no_forward(monkeypatch):
    """Make every computation fail, so that only a cache hit passes."""

    def fail(*_):
        raise AssertionError("computed again")

    return lambda: monkeypatch.setattr(TSM, "features_and_logits", fail)


@pytest.mark.parametrize("kind", ["cls", "patches"])
def test_values_are_the_models_own(tmp_path, tsm, images, kind):
    table = compute(tsm, images, tmp_path, kind, batch_size=3)
    transform = build_transform(tsm.data_config, None, training=False)
    pixels = torch.stack([transform(image) for image in images])
    with torch.no_grad():
        torch.testing.assert_close(table.features, tsm.features(pixels, kind))
        torch.testing.assert_close(table.logits, tsm(pixels))
    assert len(table) == len(images)
    assert table.features[2].shape == (tsm.num_tokens(kind), tsm.feature_dim(kind))
    assert table.logits[2].shape == (3,)
    assert table.features.dtype == table.logits.dtype == torch.float32


def test_a_hit_is_the_same_bits(tmp_path, resnet, images, no_forward):
    first = compute(resnet, images, tmp_path)
    no_forward()
    second = compute(resnet, images, tmp_path)
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.logits, second.logits)
    assert len(files(tmp_path)) == 1


def test_an_equal_model_elsewhere_hits(tmp_path, images, no_forward):
    compute(make_tsm(seed=3), images, tmp_path)
    no_forward()
    compute(make_tsm(seed=3), images, tmp_path)


def test_the_file_is_plain_safetensors(tmp_path, resnet, images):
    table = compute(resnet, images, tmp_path)
    with safe_open(files(tmp_path)[0], "pt") as file:
        assert set(file.keys()) == {"features", "logits", "sha256"}
        assert file.get_slice("features").get_shape() == [7, 1, 96]
        assert torch.equal(file.get_slice("features")[3], table.features[3])


def test_any_change_makes_another_key(resnet, images):
    def key(tsm=resnet, kind="cls", fingerprint="a/train", num_images=7, **config):
        transform = build_transform({**tsm.data_config, **config}, None, training=False)
        return exemplar_key(tsm, kind=kind, transform=transform, data_fingerprint=fingerprint, num_images=num_images)

    keys = [key(), key(kind="patches"), key(fingerprint="a/val"), key(num_images=8)]
    keys += [key(crop_pct=0.9), key(mean=[0.485, 0.456, 0.407]), key(interpolation="bilinear")]
    name, model_args = TINY["resnet"]
    pooled_by_maximum = TSM(name, 3, model_args={**model_args, "global_pool": "max"}, data_config=resnet.data_config)
    pooled_by_maximum.load_state_dict(resnet.state_dict())
    keys.append(key(pooled_by_maximum))
    again = key()
    weight = resnet.backbone.layer3[0].conv1.weight.data.view(-1)
    weight[5] = torch.nextafter(weight[5], torch.tensor(9.0))
    keys.append(key())
    resnet.backbone.bn1.running_mean += 1e-6
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert again == keys[0]


def test_a_changed_model_is_not_served_stale(tmp_path, resnet, images):
    before = compute(resnet, images, tmp_path)
    resnet.backbone.fc.bias.data[0] += 1
    after = compute(resnet, images, tmp_path)
    assert len(files(tmp_path)) == 2
    torch.testing.assert_close(after.logits[:, 0], before.logits[:, 0] + 1)


def test_a_changed_step_of_a_users_own_transform_is_seen(tmp_path, resnet, images):
    ours = build_transform(resnet.data_config, None, training=False)
    darker = Compose([*ours.transforms, Lambda(lambda x: x - 1)])
    brighter = Compose([*ours.transforms, Lambda(lambda x: x + 1)])
    tables = [compute(resnet, images, tmp_path, transform=transform) for transform in (ours, darker, brighter)]
    assert not torch.equal(tables[1].logits, tables[2].logits)
    assert not torch.equal(tables[0].logits, tables[1].logits)


@pytest.mark.parametrize("place", ["empty", "header", "shape", "features", "logits", "digest", "truncated", "garbage"])
def test_a_damaged_file_is_computed_again(tmp_path, resnet, images, place):
    good = compute(resnet, images, tmp_path)
    features, logits = good.features.clone(), good.logits.clone()
    del good
    path = files(tmp_path)[0]
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    if place == "shape":
        data = data.replace(b"[7, 1, 96]", b"[7, 96, 1]")
    elif place in ("empty", "truncated", "garbage"):
        data = {"empty": b"", "truncated": data[:-40], "garbage": b"x" * 500}[place]
    else:
        at = {"header": 3, "features": start + 100, "logits": len(data) - 40, "digest": len(data) - 5}[place]
        data[at] ^= 1
    path.write_bytes(data)
    with pytest.warns(RuntimeWarning, match="damaged"):
        table = compute(resnet, images, tmp_path)
    assert torch.equal(table.features, features)
    assert torch.equal(table.logits, logits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute(resnet, images, tmp_path)


def test_a_failure_halfway_leaves_nothing(tmp_path, resnet, images):
    class Broken(list):
        def __getitem__(self, index):
            if index == 5:
                raise OSError("image 5 is unreadable")
            return super().__getitem__(index)

    resnet.train()
    with pytest.raises(OSError, match="image 5"):
        compute(resnet, Broken(images), tmp_path, batch_size=2)
    assert files(tmp_path) == []
    assert resnet.training


def test_the_mode_and_random_state_are_left_alone(tmp_path, resnet, images):
    """A run that computes its cache and a run that finds it continue with the same random numbers."""
    resnet.train()
    before = torch.get_rng_state(), random.getstate()
    trained = compute(resnet, images, tmp_path / "a")
    assert resnet.training
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert torch.equal(compute(resnet.eval(), images, tmp_path / "b").features, trained.features)


def test_batch_size_and_workers_do_not_change_the_rows(tmp_path, resnet, images):
    one = compute(resnet, images, tmp_path / "a", batch_size=1)
    all_at_once = compute(resnet, images, tmp_path / "b", batch_size=64, workers=2)
    torch.testing.assert_close(one.features, all_at_once.features)


def test_a_bar_is_shown_only_for_many_images(tmp_path, resnet, images, capfd, monkeypatch):
    assert exemplars.BAR_FROM == 1000
    monkeypatch.setattr(exemplars, "BAR_FROM", 6)
    for size, progress, shown in ((7, False, False), (6, True, False), (7, True, True)):
        compute(resnet, images[:size], tmp_path / f"{size}-{progress}", progress=progress)
        assert ("exemplars" in capfd.readouterr().out) == shown


def test_errors(tmp_path, resnet, images):
    with pytest.raises(UsageError, match="Did you mean 'cls'"):
        compute(resnet, images, tmp_path, kind="cl")
    with pytest.raises(UsageError, match="no images"):
        compute(resnet, [], tmp_path)


def _in_another_process(folder, images, barrier, results):
    torch.set_num_threads(1)
    tsm = make_tsm()
    barrier.wait()
    table = compute(tsm, images, folder)
    results.put((table.features.numpy().tobytes(), table.logits.numpy().tobytes()))


def test_two_processes_at_once(tmp_path, images):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=_in_another_process, args=(tmp_path, images * 20, barrier, results)) for _ in "ab"
    ]
    for worker in workers:
        worker.start()
    one, two = results.get(timeout=60), results.get(timeout=60)
    for worker in workers:
        worker.join(60)
    assert one == two
    assert len(files(tmp_path)) == 1
