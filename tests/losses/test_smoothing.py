"""Smoothed labels as a teacher: what the loops of `reference.py` do not say."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from vitask.losses import rda_loss, smoothed_label_logits, vanilla_loss

from .reference import leaf, ragged_labels


def test_by_hand():
    """Of two tokens, smoothed by 1/2: (3/4, 1/4). KL((1/2, 1/2) || (3/4, 1/4)) = log(4/3) / 2."""
    student, labels = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    teacher = smoothed_label_logits(labels, 2, 0.5, dtype=torch.float64)
    assert teacher.exp().tolist() == [pytest.approx([0.75, 0.25])]
    assert rda_loss(student, teacher, labels).item() == pytest.approx(math.log(4 / 3) / 2, abs=1e-15)


def test_teacher_first_it_is_the_cross_entropy_of_label_smoothing_less_a_constant():
    labels, student = ragged_labels(), leaf(5, 5, 7, seed=1)
    teacher = smoothed_label_logits(labels, 7, 0.2, dtype=torch.float64)
    loss = rda_loss(student, teacher, labels, direction="teacher_first")
    expected = functional.cross_entropy(student.flatten(0, 1), labels.flatten(), label_smoothing=0.2)
    entropy = -(teacher[0, 0].exp() * teacher[0, 0]).sum().item()
    assert loss.item() == pytest.approx(expected.item() - entropy, abs=1e-12)
    assert torch.allclose(*(torch.autograd.grad(each, student)[0] for each in (loss, expected)), atol=1e-14)


def test_without_smoothing_left_teacher_first_tends_to_plain_tuning():
    labels, student = ragged_labels(), leaf(5, 5, 7, seed=1)
    teacher = smoothed_label_logits(labels, 7, 1e-9, dtype=torch.float64)
    loss = rda_loss(student, teacher, labels, direction="teacher_first")
    assert loss.item() == pytest.approx(vanilla_loss(student, labels).item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_vocabulary_keeps_its_share(dtype):
    logits = smoothed_label_logits(torch.tensor([[5, -100]]), 150_000, 0.1, dtype=dtype)
    assert (logits.shape, logits.dtype) == ((1, 2, 150_000), dtype)
    assert logits.exp().sum(-1)[0, 0].item() == pytest.approx(1, abs=1e-4)
    assert logits.log_softmax(-1)[0, 1].exp().unique().item() == pytest.approx(1 / 150_000)


@pytest.mark.parametrize("smoothing", [0, -0.1, 1.1, math.nan])
def test_a_share_outside_of_its_range_is_an_error(smoothing):
    with pytest.raises(ValueError, match="greater than 0 and at most 1; got"):
        smoothed_label_logits(torch.tensor([0]), 2, smoothing)


def test_labels_are_integers():
    with pytest.raises(ValueError, match=r"labels must be integers; got torch\.float32"):
        smoothed_label_logits(torch.zeros(1), 2)
