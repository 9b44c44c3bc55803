from __future__ import annotations

import math

import pytest
import torch

from vitask.losses import closed_set_positions, label_log_odds

from .closed_set_reference import OWN, SHARED, ragged_scores
from .reference import leaf


def test_log_odds_by_hand():
    """Answers {a}, {a, b}, {} with probabilities 1/2, 1/3, 1/6: p_a = 5/6, p_b = 1/3, odds 5 and 1/2.

    At T = 1/2 the probabilities are as 9 : 4 : 1, so p_a = 13/14, p_b = 4/14, odds 13 and 2/5.
    """
    scores = torch.tensor([[math.log(3), math.log(2), 0.0]], dtype=torch.float64)
    membership = torch.tensor([[True, False], [True, True], [False, False]])
    assert label_log_odds(scores, membership).exp().tolist() == [pytest.approx([5, 1 / 2])]
    assert label_log_odds(scores, membership, 0.5).exp().tolist() == [pytest.approx([13, 2 / 5])]


def test_single_labels_have_the_probabilities_of_the_softmax():
    scores = leaf(5, 4, seed=1)
    p = label_log_odds(scores, torch.eye(4, dtype=torch.bool)).sigmoid()
    assert torch.allclose(p, scores.softmax(-1), atol=1e-15)


@pytest.mark.parametrize("membership", [SHARED, OWN])
def test_a_label_and_its_absence_have_opposite_log_odds(membership):
    scores, membership = ragged_scores(), torch.tensor(membership)
    log_odds, absent = label_log_odds(scores, membership), label_log_odds(scores, ~membership)
    settled = ~closed_set_positions(scores > -math.inf, membership=membership)
    assert torch.equal(log_odds[~settled], -absent[~settled])
    assert (log_odds[settled].isinf() & absent[settled].isinf()).all()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_settled_labels_are_exactly_certain_and_get_no_gradient():
    """Row 3 of the example has candidates {a, b} and {b}: b for sure, c for sure not."""
    scores = ragged_scores()
    with torch.autograd.detect_anomaly(check_nan=True):
        log_odds = label_log_odds(scores, torch.tensor(SHARED))
        assert log_odds[3, 1:].tolist() == [math.inf, -math.inf]
        assert log_odds[3, 1:].sigmoid().tolist() == [1, 0]
        log_odds.sum().backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[4].abs().max() == 0
    assert scores.grad[scores.isneginf()].abs().max() == 0


def test_a_row_without_candidates_holds_no_label():
    scores = torch.full((1, 4), -math.inf, requires_grad=True)
    log_odds = label_log_odds(scores, torch.tensor(SHARED))
    assert log_odds.tolist() == [[-math.inf] * 3]
    log_odds.sum().backward()
    assert scores.grad.tolist() == [[0] * 4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [1e2, 6e4])
def test_certainty_keeps_its_digits(dtype, extreme):
    """log p would be 0 in floating point; the log-odds know by how much it is not."""
    scores = torch.tensor([[0.0, -extreme, -extreme]], dtype=dtype, requires_grad=True)
    log_odds = label_log_odds(scores, torch.eye(3, dtype=torch.bool))
    held = -scores[0, 1].item()
    assert log_odds.dtype == torch.promote_types(dtype, torch.float32)
    assert log_odds[0].tolist() == pytest.approx([held - math.log(2), -held, -held], rel=1e-6)
    log_odds.sum().backward()
    assert scores.grad.isfinite().all()


def test_membership_may_be_each_row_s_own():
    scores = ragged_scores()
    shared = torch.tensor(SHARED)
    assert torch.equal(label_log_odds(scores, shared.expand(5, 4, 3)), label_log_odds(scores, shared))
    own = torch.tensor(OWN)
    rows = torch.cat([label_log_odds(scores[b : b + 1], own[b]) for b in range(5)])
    assert torch.allclose(label_log_odds(scores, own), rows, atol=1e-14)


def test_what_is_counted_by_hand():
    """Three candidates, two, one and none."""
    candidates = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False] * 3])
    assert closed_set_positions(candidates).tolist() == [[True], [True], [False], [False]]
    mask = torch.tensor([False, True, True, True])
    assert closed_set_positions(candidates, mask=mask).tolist() == [[False], [True], [False], [False]]
    membership = torch.tensor([[True, True], [True, False], [False, True]])
    expected = [[True, True], [True, False], [False, False], [False, False]]
    assert closed_set_positions(candidates, membership=membership).tolist() == expected


SCORES, SET, BAD = torch.ones(2, 3), torch.ones(3, 4) > 0, torch.ones(2, 4) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_log_odds(SCORES, SET, 0), "temperature must be greater than 0; got 0"),
        (lambda: label_log_odds(SCORES.long(), SET), "scores must be floating point; got torch.int64"),
        (lambda: label_log_odds(SCORES[0], SET), r"scores must have shape \(B, K\), .* got \(3,\)"),
        (lambda: label_log_odds(SCORES[:, :0], SET), r"at least one candidate; got \(2, 0\)"),
        (lambda: label_log_odds(SCORES, SET.float()), "membership must be bool; got torch.float32"),
        (lambda: label_log_odds(SCORES, BAD), r"\(K, L\) or \(B, K, L\): got \(2, 4\) and scores \(2, 3\)"),
        (lambda: label_log_odds(SCORES, SET[0]), r"got \(4,\) and scores \(2, 3\)"),
        (lambda: closed_set_positions(SCORES), "candidates must be bool; got torch.float32"),
        (lambda: closed_set_positions(SCORES > 0, membership=BAD), r"got \(2, 4\) and candidates \(2, 3\)"),
        (lambda: closed_set_positions(SCORES > 0, mask=torch.ones(2)), "mask must be bool; got torch.float32"),
        (lambda: closed_set_positions(SCORES > 0, mask=torch.ones(3) > 0), r"shape \(B,\): got \(3,\)"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
