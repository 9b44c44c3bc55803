"""Mixed training images: pairs of one optimiser step, the same whoever computes which part of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.optim import create_optimizer_v2

from vitask.data import make_task, mix
from vitask.training.sampling import rank_share
from vitask.training.tsm_data import TSMTrainingData
from vitask.training.tsm_task import TSMTask, joint_heads

from ..tsm.tiny import make_tsm
from .tiny_task import ANSWERS, make_toy_task
from .toy import train

STEPS = [[3, 1, 7, 2, 9, 0], [4, 8, 5, 6]]
KINDS = {"mixup": (0.4, 0.0), "cutmix": (0.0, 1.0), "both": (0.4, 1.0)}


def plain(image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((32, 32)))).double().permute(2, 0, 1) / 255


def noisy(image) -> torch.Tensor:
    return plain(image) + torch.rand(()).double()


def make_data(kind: str = "mixup", transform=noisy, seed: int = 0, task=None) -> TSMTrainingData:
    mixing = Mixup(*KINDS[kind], label_smoothing=0.0, num_classes=2)
    return TSMTrainingData(task or make_toy_task(), transform, seed, mixing)


def test_every_image_of_a_step_is_mixed_with_another_and_into_another():
    data = make_data()
    first, again, later, other = data.keys(0, STEPS), data.keys(0, STEPS), data.keys(1, STEPS), make_data(seed=1)
    assert first == again
    assert {key for _, key in first[0]} != {key for _, key in later[0]}
    assert [partner for _, partner in other.keys(0, STEPS)[0]] != [partner for _, partner in first[0]]
    for step, keys in zip(STEPS, first, strict=True):
        assert [own for own, _ in keys] == [(0, index) for index in step]
        assert sorted(partner for _, partner in keys) == sorted((0, index) for index in step)
        assert all(own != partner for own, partner in keys)
    assert data.keys(0, [[5]]) == [[((0, 5), (0, 5))]]


def test_an_image_that_comes_twice_keeps_its_two_augmentations():
    ((one, two, three),) = make_data().keys(0, [[5, 5, 2]])
    assert {one[0], two[0], three[0]} == {(0, 5), (0, 5, 1), (0, 2)} == {one[1], two[1], three[1]}


def test_no_image_is_mixed_with_one_of_another_data_set():
    toy = make_toy_task()
    data = make_data(task=mix("both", [toy, replace(toy, name="again", labels=("four", "five", "six"))]))
    rng = np.random.default_rng(0)
    for epoch in range(5):
        (keys,) = data.keys(epoch, [rng.permutation(20)[:9].tolist()])
        items = [data[key] for key in keys]
        batch = data.collate(items)
        for (own, partner), member, targets in zip(keys, batch["members"], batch["targets"], strict=True):
            assert own[1] // 10 == partner[1] // 10 == member
            assert targets[3 * member : 3 * member + 3].sum().item() == pytest.approx(1)
            assert targets.sum().item() == pytest.approx(1)


def shares_of(data: TSMTrainingData, epoch: int):
    """Pixels of the items whose labels differ from their partner's, those of both images, and the own share."""
    for step in data.keys(epoch, STEPS):
        for own, partner in step:
            pixels, index, targets = data[own, partner]
            mine, theirs = ANSWERS[own[1]], ANSWERS[partner[1]]
            assert index == own[1]
            if mine == theirs:
                assert targets[mine].item() == pytest.approx(1)
                continue
            share = targets[mine].item()
            assert targets[theirs].item() == pytest.approx(1 - share, abs=1e-6)
            yield pixels, data._pixels(own), data._pixels(partner), share


def test_mixup_takes_pixels_and_labels_in_the_same_shares():
    shares = []
    for epoch in range(25):
        for pixels, own, partner, share in shares_of(make_data("mixup"), epoch):
            expected = share * own + (1 - share) * partner
            torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-6)
            shares.append(share)
    assert len(set(shares)) == len(shares) > 100
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.3)  # of Beta(0.4, 0.4)


def test_cutmix_takes_a_rectangle_and_its_share_of_the_labels():
    boxes = 0
    for epoch in range(8):
        for pixels, own, partner, share in shares_of(make_data("cutmix"), epoch):
            theirs = (pixels == partner).all(0)
            assert ((pixels == own).all(0) | theirs).all()
            rows, columns = theirs.any(1), theirs.any(0)
            assert torch.equal(theirs, rows[:, None] & columns)
            assert theirs.double().mean().item() == pytest.approx(1 - share, abs=1e-6)
            boxes += int(0 < share < 1)
    assert boxes > 20


def test_with_both_each_item_is_one_or_the_other():
    kinds = set()
    for epoch in range(6):
        for pixels, own, partner, _ in shares_of(make_data("both"), epoch):
            kinds.add(bool(((pixels == own) | (pixels == partner)).all()))
    assert kinds == {True, False}


def test_targets_of_several_labels_mix_linearly():
    rows = [[0, 2], [], [1], [0, 1, 2]]
    images = make_toy_task().splits["train"].select(range(4))
    splits, targets = dict.fromkeys(("train", "val", "test"), images), dict.fromkeys(("train", "val", "test"), rows)
    task = make_task("m", "noise", ["a", "b", "c"], splits, targets, content="x", origin="m", multi_label=True)
    data = make_data("mixup", plain, task=task)
    hot = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    (keys,) = data.keys(0, [[0, 1, 2, 3]])
    for own, partner in keys:
        pixels, _, found = data[own, partner]
        difference = data._pixels(own) - data._pixels(partner)
        share = ((pixels - data._pixels(partner)) / difference)[difference != 0].median().item()
        np.testing.assert_allclose(found, share * hot[own[1]] + (1 - share) * hot[partner[1]], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_step_hold_what_the_whole_step_holds(kind):
    """One batch of six, micro-batches of four and two, or the shares of two and three ranks: the same tensors."""
    data = make_data(kind)
    keys = data.keys(2, STEPS)[0]
    whole = data.collate([data[key] for key in keys])
    portions = [[keys[:4], keys[4:]], *([rank_share(keys, rank, n) for rank in range(n)] for n in (2, 3))]
    for parts in portions:
        batches = [make_data(kind).collate([data[key] for key in part]) for part in parts]
        assert all(torch.equal(torch.cat([batch[name] for batch in batches]), whole[name]) for name in whole)


@pytest.mark.parametrize("kind", KINDS)
def test_portions_change_no_weight(tmp_path, accelerator, kind):
    """A whole training: 1 x 8 = 2 x 4 = 8 x 1 samples of a step, with class weights and smoothing."""

    def trained(micro: int) -> dict[str, torch.Tensor]:
        data = make_data(kind)
        heads = joint_heads(make_toy_task(), data.targets, data.members, balanced=True)
        task = TSMTask(make_tsm("vit").double(), heads, 0.1)
        changes = {"batch_size": 8, "micro_batch_size": micro, "epochs": 2}
        return train(
            tmp_path / str(micro), accelerator, task, data, lambda t: create_optimizer_v2(t, "sgd", lr=0.1), **changes
        )

    runs = {micro: trained(micro) for micro in (8, 4, 1)}
    for name, value in runs[8].items():
        for micro in (4, 1):
            torch.testing.assert_close(runs[micro][name], value, rtol=0, atol=1e-10)
