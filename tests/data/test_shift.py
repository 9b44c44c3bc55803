"""A shifted version of a data set: the same for an image every time, other pixels, other fingerprint, a note."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from vitask.config.build import build_task
from vitask.config.compose import compose_config
from vitask.data import Shift, load_digits_task, load_medmnist_task, load_table_task, mix, with_label_noise, with_shift
from vitask.errors import UsageError

ALL = Shift(noise=0.1, contrast=0.5, brightness=1.2, crop=0.8, blur=0.7)


def pixels(task, split="train", most=30):
    images = task.splits[split]["image"]
    return [np.asarray(images[row]).astype(int) for row in range(min(most, len(images)))]


def differ(one, other):
    return [not np.array_equal(a, b) for a, b in zip(one, other, strict=True)]


@pytest.fixture(params=["digits", "medmnist", "table"])
def task(request, npz_arrays, save_npz, eight, tmp_path):
    if request.param == "digits":
        return load_digits_task()
    if request.param == "medmnist":
        path = save_npz(npz_arrays(classes=7, rgb=True), "dermamnist.npz")
        return load_medmnist_task("derma", path.parent, cache_dir=tmp_path / "cache")
    return load_table_task(eight(), "leaf", cache_dir=tmp_path / "cache")


def test_every_image_of_every_split_is_shifted_the_same_way_each_time(task):
    shifted = with_shift(task, ALL)
    again = pickle.loads(pickle.dumps(with_shift(task, ALL).splits["val"]["image"]))
    for split in task.splits:
        found = pixels(shifted, split)
        assert all(differ(found, pixels(task, split)))
        assert [each.shape for each in found] == [each.shape for each in pixels(task, split)]
        assert shifted.splits[split]["id"] == task.splits[split]["id"]
        assert shifted.splits[split]["answer"] == task.splits[split]["answer"]
    found = pixels(shifted, "val")
    assert not any(differ([np.asarray(again[row]) for row in range(len(found))], found))
    assert shifted.splits["train"][0]["image"].mode == task.splits["train"][0]["image"].mode
    assert shifted.fingerprint not in (task.fingerprint, with_shift(task, replace(ALL, noise=0.2)).fingerprint)
    assert shifted.fingerprint == with_shift(task, ALL).fingerprint
    assert shifted.notes["image shift"] == "noise 0.1, contrast 0.5, brightness 1.2, crop 0.8, blur 0.7, in all splits"


def test_no_shift_is_the_task_itself(task):
    assert with_shift(task, Shift()) is task


def test_an_image_is_shifted_alike_wherever_it_stands(toy):
    task = toy([0, 1, 2] * 5)
    shift = Shift(noise=0.3)
    whole = with_shift(task, shift)
    rows = [9, 4, 4]
    part = with_shift(replace(task, splits={**task.splits, "train": task.splits["train"].select(rows)}), shift)
    assert not any(differ(pixels(part), [pixels(whole)[row] for row in rows]))
    assert any(differ(pixels(whole)[:-1], pixels(whole)[1:])), "equal images of other names get other noise"


def test_members_of_a_mixture_are_shifted_each_by_its_own_name(toy):
    members = [replace(toy([0, 1, 2]), name=name) for name in ("a", "b")]
    both = with_shift(mix("both", members), Shift(noise=0.3))
    assert [list(member.notes) for member in both.members] == [["image shift"]] * 2
    assert not any(differ(pixels(both), [*pixels(both.members[0]), *pixels(both.members[1])]))
    assert both.fingerprint != mix("both", members).fingerprint


def grey(values, mode="L"):
    return Image.fromarray(np.asarray(values, dtype=np.uint8)).convert(mode)


def test_each_key_does_what_it_says():
    rng = np.random.default_rng(0)
    image = grey(rng.integers(40, 120, (60, 60)))
    before = np.asarray(image).astype(float)

    def after(**shift):
        return np.asarray(Shift(**shift)(image, "x")).astype(float)

    assert np.abs(after(brightness=1.5) - 1.5 * before).max() <= 1
    mean = np.rint(before.mean())
    assert np.abs(after(contrast=0.5) - (mean + 0.5 * (before - mean))).max() <= 1.5
    noise = after(noise=0.05) - before
    assert abs(noise.mean()) < 1
    assert abs(noise.std() - 0.05 * 255) < 1
    inside = slice(8, -8), slice(8, -8)
    assert np.abs(after(blur=1.5) - gaussian_filter(before, 1.5))[inside].mean() < 1


def test_a_crop_is_a_part_of_the_image_at_a_place_of_its_own():
    ramp = grey(np.tile(np.arange(100), (50, 1)))
    found = [np.asarray(Shift(crop=0.5)(ramp, name)).astype(float) for name in ("a", "b", "c")]
    for each in found:
        assert each.shape == (50, 100)
        assert np.ptp(each[0]) == pytest.approx(50, abs=2)
        assert np.abs(each - each[0]).max() == 0
    assert len({each[0, 0] for each in found}) == 3


def test_colour_images_stay_colour_images():
    image = grey(np.full((9, 7), 100), "RGB")
    assert ALL(image, "x").mode == "RGB"
    assert ALL(image, "x").size == (7, 9)


@pytest.mark.parametrize(("key", "value"), [("noise", -0.1), ("crop", 0), ("crop", 1.2), ("contrast", -1)])
def test_values_out_of_range(key, value):
    with pytest.raises(UsageError, match=rf"data\.shift\.{key}: {value:g} is out of range"):
        Shift(**{key: value})


def test_the_config_shifts_before_the_conditions_and_members_may_have_their_own(tmp_path):
    overrides = ["data.shift.contrast=0.5", "data.label_noise=0.3"]
    task = build_task(compose_config("train", overrides).data, 0, str(tmp_path))
    noisy = with_label_noise(load_digits_task(), 0.3, 0)
    assert task.splits["train"]["answer"] == noisy.splits["train"]["answer"]
    assert not any(differ(pixels(task), pixels(with_shift(noisy, Shift(contrast=0.5)))))
    members = "data.members={digits: {source: digits}, b: {source: digits_size, shift: {noise: 0.1}}}"
    mixed = build_task(compose_config("train", ["data=mixture", members, overrides[0]]).data, 0, str(tmp_path))
    assert [member.notes["image shift"] for member in mixed.members] == [
        "contrast 0.5, in all splits",
        "noise 0.1, contrast 0.5, in all splits",
    ]
    with pytest.raises(UsageError, match=r"data\.shift\.crop: 0\.0 is out of range"):
        compose_config("train", ["data.shift.crop=0"])
