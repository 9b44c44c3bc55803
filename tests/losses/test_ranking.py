from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from vitask.losses import RankingLoss, ranking_loss

from .closed_set_reference import MASK, OWN, ragged_scores
from .reference import leaf


def test_by_hand():
    """Scores (log 3, 0): p = (3/4, 1/4); at T = 1/2 they are as 9 : 1."""
    scores = torch.tensor([[math.log(3), 0.0]] * 2, dtype=torch.float64)
    targets = torch.tensor([0, 1])
    assert ranking_loss(scores, targets).item() == pytest.approx(math.log(16 / 3) / 2, abs=1e-15)
    assert ranking_loss(scores, targets, temperature=0.5).item() == pytest.approx(math.log(100 / 9) / 2, abs=1e-15)


def test_labels_by_hand():
    """Answers {a}, {a, b}, {} with probabilities 1/2, 1/3, 1/6: p_a = 5/6, p_b = 1/3; the truth is {b}."""
    scores = torch.tensor([[math.log(3), math.log(2), 0.0]], dtype=torch.float64)
    membership = torch.tensor([[True, False], [True, True], [False, False]])
    loss = ranking_loss(scores, torch.tensor([[0, 1]]), membership=membership)
    assert loss.item() == pytest.approx((math.log(6) + math.log(3)) / 2, abs=1e-15)


def test_one_label_an_answer_is_cross_entropy():
    scores, targets = leaf(6, 5, seed=1), torch.tensor([0, 4, 2, 2, 1, 3])
    assert ranking_loss(scores, targets).item() == pytest.approx(functional.cross_entropy(scores, targets).item())


def test_two_single_labels_are_the_same_with_and_without_membership():
    """p_a = 1 - p_b: both labels say the same."""
    scores, targets = leaf(6, 2, seed=1), torch.tensor([0, 1, 1, 0, 1, 0])
    hot = functional.one_hot(targets, 2)
    both = ranking_loss(scores, targets), ranking_loss(scores, hot, membership=torch.eye(2, dtype=torch.bool))
    gradients = [torch.autograd.grad(loss, scores)[0] for loss in both]
    assert both[0].item() == pytest.approx(both[1].item(), abs=1e-15)
    assert torch.allclose(*gradients, atol=1e-15)


def test_targets_of_any_dtype():
    scores, membership = ragged_scores(), torch.tensor(OWN)
    targets = torch.randint(0, 2, (5, 3))
    expected = ranking_loss(scores, targets, membership=membership)
    for dtype in (torch.bool, torch.uint8, torch.float16, torch.float32):
        assert torch.equal(ranking_loss(scores, targets.to(dtype), membership=membership), expected)
    single = torch.tensor([3, 2, 0, 2, 2])
    assert torch.equal(ranking_loss(scores, single.to(torch.int16)), ranking_loss(scores, single))


def test_a_masked_target_may_hold_anything():
    scores, mask = ragged_scores(), torch.tensor(MASK)
    one, other = torch.tensor([3, 2, 0, 2, 2]), torch.tensor([3, 2, -100, 2, 9])
    assert torch.equal(ranking_loss(scores, one, mask=mask), ranking_loss(scores, other, mask=mask))
    hot = torch.ones(5, 3)
    unknown = hot.masked_fill(~mask.unsqueeze(-1), math.nan)
    losses = [ranking_loss(scores, x, membership=torch.tensor(OWN), mask=mask) for x in (hot, unknown)]
    assert torch.equal(*losses)
    assert torch.equal(*(torch.autograd.grad(loss, scores)[0] for loss in losses))


def test_a_true_answer_that_is_padding_costs_infinity():
    assert ranking_loss(ragged_scores(), torch.tensor([3, 0, 0, 2, 2])).item() == math.inf


def test_gradient_descent_finds_the_truth():
    scores, membership = torch.zeros(1, 4, requires_grad=True), torch.tensor(OWN[1])
    optimizer = torch.optim.SGD([scores], lr=5.0)
    for _ in range(200):
        optimizer.zero_grad()
        ranking_loss(scores, torch.tensor([[1, 1, 0]]), membership=membership).backward()
        optimizer.step()
    assert scores.softmax(-1)[0, 1].item() > 0.95


def test_module_passes_its_options_on():
    scores, membership, mask = ragged_scores(), torch.tensor(OWN), torch.tensor(MASK)
    targets, module = torch.randint(0, 2, (5, 3)), RankingLoss(temperature=3.0)
    expected = ranking_loss(scores, targets, membership=membership, mask=mask, temperature=3.0, normalizer=7)
    assert torch.equal(module(scores, targets, membership=membership, mask=mask, normalizer=7), expected)
    assert list(module.parameters()) == []
    assert repr(module) == "RankingLoss(temperature=3.0)"


A, INDEX, SET = torch.ones(2, 3), torch.zeros(2).long(), torch.ones(3, 4) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RankingLoss(temperature=0), "temperature must be greater than 0; got 0"),
        (lambda: ranking_loss(A, INDEX, temperature=math.nan), "temperature must be greater than 0; got nan"),
        (lambda: ranking_loss(A.long(), INDEX), "scores must be floating point; got torch.int64"),
        (lambda: ranking_loss(A[0], INDEX), r"scores must have shape \(B, K\), .* got \(3,\)"),
        (lambda: ranking_loss(A, INDEX.float()), "targets must be integers; got torch.float32"),
        (lambda: ranking_loss(A, A.long()), r"targets must have shape \(2,\); got \(2, 3\)"),
        (lambda: ranking_loss(A, INDEX, membership=SET), r"\(2, 4\), one value a label of membership; got \(2,\)"),
        (lambda: ranking_loss(A, INDEX, membership=SET[:2]), r"got \(2, 4\) and scores \(2, 3\)"),
        (lambda: ranking_loss(A, INDEX, membership=SET.int()), "membership must be bool; got torch.int32"),
        (lambda: ranking_loss(A, INDEX, mask=INDEX), "mask must be bool; got torch.int64"),
        (lambda: ranking_loss(A, INDEX, mask=INDEX.unsqueeze(-1) > 0), r"shape \(B,\): got \(2, 1\)"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_target_outside_the_set_is_an_error():
    with pytest.raises((IndexError, RuntimeError)):
        ranking_loss(A, INDEX + 3)
