from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from vitask.data import make_task, mix
from vitask.training.tsm_data import TSMTrainingData, joint_targets, label_targets

from ..vlm.tiny import picture
from .tiny_task import ANSWERS, make_toy_task


def noisy(image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image)).float().permute(2, 0, 1)
    return pixels + torch.rand(())


def test_augmentation_is_a_function_of_seed_epoch_and_index():
    data = TSMTrainingData(make_toy_task(), noisy, seed=0)
    keys = [(0, 1), (0, 2), (1, 1)]
    assert data.keys(1, [[3, 1], [2]]) == [[(1, 3), (1, 1)], [(1, 2)]]
    first = [data[key][0] for key in keys]
    assert all(torch.equal(data[key][0], pixels) for key, pixels in zip(reversed(keys), reversed(first), strict=True))
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], TSMTrainingData(make_toy_task(), noisy, seed=1)[0, 1][0])


def test_batch_aligns_pixels_targets_and_ids():
    data = TSMTrainingData(make_toy_task(), lambda image: noisy(image).floor(), seed=0)
    assert len(data) == len(ANSWERS)
    batch = data.collate([data[0, index] for index in (4, 2, 9)])
    assert batch["id"].tolist() == [4, 2, 9]
    assert batch["targets"].argmax(-1).tolist() == [ANSWERS[index] for index in (4, 2, 9)]
    assert batch["targets"].sum(-1).tolist() == [1, 1, 1]
    assert batch["members"].tolist() == [0, 0, 0]
    for pixels, index in zip(batch["pixels"], (4, 2, 9), strict=True):
        assert torch.equal(pixels, torch.from_numpy(np.array(picture(index))).float().permute(2, 0, 1))


def test_targets_of_several_labels_are_multi_hot():
    rows = [[0, 2], [], [1], [0, 1, 2]]
    plain = make_toy_task().splits["train"].select(range(4))
    splits, targets = dict.fromkeys(("train", "val", "test"), plain), dict.fromkeys(("train", "val", "test"), rows)
    task = make_task("m", "noise", ["a", "b", "c"], splits, targets, content="x", origin="m", multi_label=True)
    assert label_targets(task, "train").tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]
    assert label_targets(make_toy_task(), "val").tolist() == ANSWERS
    assert torch.equal(joint_targets(task, "train")[0], label_targets(task, "train"))


def test_targets_of_a_mixture_stand_in_their_own_part_of_the_class_space():
    toy = make_toy_task()
    task = mix("both", [toy, replace(toy, name="again", labels=("four", "five", "six"))])
    targets, members = joint_targets(task, "test")
    assert targets.shape == (20, 6)
    assert targets.argmax(-1).tolist() == [*ANSWERS, *(3 + answer for answer in ANSWERS)]
    assert members.tolist() == [0] * 10 + [1] * 10
