from __future__ import annotations

import math

import pytest
import torch

from vitask.losses import CRTLoss, count_valid, crt_loss, crt_positions

from .reference import CLOSED_SET, leaf, ragged_labels


def test_by_hand():
    """Positive (log 6, 0), negative (log 2, 0): the difference (log 3, 0) gives q = (3/4, 1/4).

    Label 0 costs log(4/3), label 1 costs log 4; their mean is log(16/3) / 2. The vanilla loss of the positive branch
    would be log(7/6) for label 0, and the other order of subtraction would swap the two.
    """
    positive = torch.tensor([[math.log(6), 0.0]] * 2, dtype=torch.float64)
    negative = torch.tensor([[math.log(2), 0.0]] * 2, dtype=torch.float64)
    assert crt_loss(positive[:1], negative[:1], torch.tensor([0])).item() == pytest.approx(math.log(4 / 3), abs=1e-15)
    assert crt_loss(positive, negative, torch.tensor([0, 1])).item() == pytest.approx(math.log(16 / 3) / 2, abs=1e-15)


def test_equal_branches_cost_log_of_the_vocabulary():
    a = leaf(5, 5, 7, seed=1)
    assert crt_loss(a, a, ragged_labels()).item() == pytest.approx(math.log(7), abs=1e-14)


def test_a_shift_of_either_branch_changes_nothing():
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    shift = leaf(5, 5, 1, seed=3, scale=30)
    expected = crt_loss(a, b, labels).item()
    assert crt_loss(a + shift, b, labels).item() == pytest.approx(expected, abs=1e-12)
    assert crt_loss(a, b + shift, labels).item() == pytest.approx(expected, abs=1e-12)


def test_gradients_of_the_branches_are_opposite():
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    by_a, by_b = torch.autograd.grad(crt_loss(a, b, labels), [a, b])
    assert torch.equal(by_a, -by_b)
    assert by_a.abs().max() > 0


def test_half_precision_is_subtracted_in_float32():
    """bfloat16 keeps 8 bits: 100.5 - 0.25 = 100.25 is 100.0 or 100.5 there, and the loss would be off by a quarter."""
    positive = torch.tensor([[100.5, 100.0]], dtype=torch.bfloat16)
    negative = torch.tensor([[0.25, 0.0]], dtype=torch.bfloat16)
    assert crt_loss(positive, negative, torch.tensor([0])).item() == pytest.approx(
        math.log1p(math.exp(-0.25)), abs=1e-6
    )
    overflow = torch.tensor([[6e4, -6e4]], dtype=torch.float16)
    assert crt_loss(overflow, -overflow, torch.tensor([1])).item() == pytest.approx(239872, rel=1e-3)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 6e4])
@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_a_sample_without_negative_weighs_nothing_and_stays_in_the_graph(garbage, reduction):
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    broken = b.detach().clone()
    broken[1], broken[4] = garbage, garbage
    broken.requires_grad_()
    keep = torch.tensor([True, False, True, True, False])
    loss = crt_loss(a, broken, labels, mask=keep.unsqueeze(-1), reduction=reduction)
    expected = crt_loss(a[keep], b[keep], labels[keep], reduction=reduction)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-13)
    for gradient in torch.autograd.grad(loss, [a, broken]):
        assert gradient.isfinite().all()
        assert gradient[~keep].abs().max() == 0
        assert gradient[0].abs().max() > 0


def test_no_sample_with_a_negative_is_an_attached_zero():
    labels, a = ragged_labels(), leaf(5, 5, 7, seed=1)
    b = torch.full((5, 5, 7), math.nan, dtype=torch.float64, requires_grad=True)
    loss = crt_loss(a, b, labels, mask=torch.zeros(5, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert a.grad.abs().max() == b.grad.abs().max() == 0


def test_a_token_mask_will_do():
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[3, 1] = mask[2, 0] = True
    expected = crt_loss(a[3, 1], b[3, 1], labels[3, 1])
    assert crt_loss(a, b, labels, mask=mask).item() == pytest.approx(expected.item(), abs=1e-14)


@pytest.mark.parametrize("which", [(0, 1), (0,), (1,)])
def test_a_masked_vocabulary_has_no_part(which):
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    masked = [torch.cat([x.detach(), torch.zeros(5, 5, 2)], -1) for x in (a, b)]
    for branch in which:
        masked[branch][..., 7:] = -math.inf
    masked = [x.requires_grad_() for x in masked]
    loss = crt_loss(*masked, labels)
    assert loss.item() == pytest.approx(crt_loss(a, b, labels).item(), abs=1e-13)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, masked))


def test_branching_tokens_alone_get_gradient():
    """Of `2 4 4 4 0` only the first token is in question; of `3 5 6 0` the first three."""
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    CRTLoss(tokens="branching", label_tokens=CLOSED_SET)(a, b, labels).backward()
    touched = (b.grad.abs().sum(-1) > 0).tolist()
    assert touched[4] == [True, False, False, False, False]
    assert touched[0] == [True, True, True, False, False]


@pytest.mark.parametrize("tokens", ["all", "branching"])
@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_positions_count_what_the_loss_divides_by(tokens, reduction):
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    options = {"tokens": tokens, "label_tokens": CLOSED_SET}
    mask = torch.tensor([[True], [False], [True], [True], [True]])
    total = sum(
        count_valid(crt_positions(x, mask=m, **options), reduction)
        for x, m in zip(labels.split(2), mask.split(2), strict=True)
    )
    parts = [
        crt_loss(x, y, z, mask=m, reduction=reduction, normalizer=total, **options)
        for x, y, z, m in zip(a.split(2), b.split(2), labels.split(2), mask.split(2), strict=True)
    ]
    whole = crt_loss(a, b, labels, mask=mask, reduction=reduction, **options)
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-14)


def test_module_passes_its_options_on():
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    options = {"tokens": "branching", "label_tokens": CLOSED_SET, "reduction": "sequence"}
    mask, module = torch.tensor([[True], [False], [True], [True], [True]]), CRTLoss(**options)
    assert torch.equal(
        module(a, b, labels, mask=mask, normalizer=3), crt_loss(a, b, labels, mask=mask, normalizer=3, **options)
    )
    assert list(module.parameters()) == []
    assert repr(module) == "CRTLoss(tokens='branching', labels=5, reduction='sequence', ignore_index=-100)"
    assert repr(CRTLoss()) == "CRTLoss(tokens='all', reduction='token', ignore_index=-100)"


A, B, LABELS = torch.ones(2, 2, 3), torch.ones(2, 2, 4), torch.tensor([[0, 1], [2, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CRTLoss(tokens="some"), "tokens must be one of 'all', 'branching'; got 'some'"),
        (lambda: CRTLoss(tokens="branching"), "tokens='branching' needs label_tokens"),
        (lambda: CRTLoss(tokens="branching", label_tokens=[]), "at least one label"),
        (lambda: CRTLoss(reduction="mean"), "'token', 'sequence'; got 'mean'"),
        (lambda: crt_loss(A, A, LABELS, tokens="some"), "'all', 'branching'; got 'some'"),
        (lambda: crt_loss(A, A, LABELS, tokens="branching"), "tokens='branching' needs label_tokens"),
        (lambda: crt_loss(A, A, LABELS, tokens="branching", label_tokens=[[0, 1]]), r"row 1 of labels, \[2, 0\]"),
        (lambda: crt_loss(A, A, LABELS, reduction="mean"), "'token', 'sequence'; got 'mean'"),
        (lambda: crt_loss(A, B, LABELS), r"positive_logits \(2, 2, 3\), negative_logits \(2, 2, 4\), labels \(2, 2\)"),
        (lambda: crt_loss(A.int(), A, LABELS), "positive_logits must be floating point; got torch.int32"),
        (lambda: crt_loss(A, A, LABELS, mask=torch.ones(2, 1)), "mask must be bool; got torch.float32"),
        (lambda: crt_loss(A, A, LABELS, mask=torch.ones(2) > 0), r"got \(2,\) and labels \(2, 2\)"),
        (lambda: crt_loss(A, A, LABELS, mask=torch.ones(2, 3) > 0), r"got \(2, 3\) and labels \(2, 2\)"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
