from __future__ import annotations

import math

import pytest
import torch

from vitask.losses import CSALoss, csa_loss, label_log_odds, rda_loss

from .closed_set_reference import MASK, OWN, SHARED, ragged_scores
from .reference import leaf


def test_by_hand():
    """VLM (1/2, 1/2), TSM (1/4, 3/4): KL(TSM || VLM) = log(1/2)/4 + 3 log(3/2)/4 = log(27/16)/4."""
    scores, teacher = torch.zeros(1, 2).double(), torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    assert csa_loss(scores, teacher).item() == pytest.approx(math.log(27 / 16) / 4, abs=1e-15)
    assert csa_loss(scores, 2 * teacher, teacher_temperature=2.0).item() == pytest.approx(
        math.log(27 / 16) / 4, abs=1e-15
    )
    assert csa_loss(scores, teacher, temperature=3.0).item() == pytest.approx(9 * math.log(27 / 16) / 4, abs=1e-14)


def test_labels_by_hand():
    """Answers {a}, {a, b}, {} with probabilities 1/4, 1/4, 1/2: p_a = 1/2, p_b = 1/4. TSM: t_a = 3/4, t_b = 1/4."""
    scores = torch.tensor([[0.0, 0.0, math.log(2)]], dtype=torch.float64)
    membership = torch.tensor([[True, False], [True, True], [False, False]])
    teacher = torch.tensor([[math.log(3), -math.log(3)]], dtype=torch.float64)
    assert csa_loss(scores, teacher, membership=membership).item() == pytest.approx(math.log(27 / 16) / 8, abs=1e-15)


def test_equal_temperatures_give_rda_with_the_teacher_first():
    scores, teacher, labels = leaf(5, 7, seed=1), leaf(5, 7, seed=2), torch.zeros(5).long()
    options = {"temperature": 2.5}
    expected = rda_loss(scores, teacher, labels, direction="teacher_first", **options)
    actual = csa_loss(scores, teacher, teacher_temperature=2.5, **options)
    assert actual.item() == pytest.approx(expected.item(), abs=1e-14)
    assert torch.allclose(*(torch.autograd.grad(loss, scores)[0] for loss in (actual, expected)), atol=1e-15)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("teacher_temperature", [0.5, 2.0])
def test_near_agreement_the_gradient_does_not_depend_on_the_temperature(temperature, teacher_temperature):
    """Scores off by d from agreement: (diag(p) - p p^T) d, p being the target."""
    teacher, d = leaf(1, 4, seed=1).detach(), 1e-5 * leaf(1, 4, seed=2).detach()
    scores = (temperature / teacher_temperature * teacher + d).requires_grad_()
    csa_loss(scores, teacher, temperature=temperature, teacher_temperature=teacher_temperature).backward()
    p = (teacher / teacher_temperature).softmax(-1)
    assert torch.allclose(scores.grad, p * d - p * (p * d).sum(), atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_zero_for_equal_distributions_and_positive_otherwise(temperature, dtype):
    scores, other = ragged_scores().to(dtype), leaf(5, 4, seed=1).to(dtype)
    same = {"temperature": temperature, "teacher_temperature": temperature}
    assert csa_loss(scores, scores, **same).item() == 0
    assert csa_loss(scores, scores.nan_to_num(neginf=5.0), **same).item() == 0
    assert csa_loss(scores, other, **same).item() > 1e-3
    for membership in (torch.tensor(SHARED), torch.tensor(OWN)):
        teacher = label_log_odds(scores, membership, temperature)
        assert csa_loss(scores, teacher, membership=membership, temperature=temperature).item() == 0
        assert csa_loss(scores, teacher + 1, membership=membership, temperature=temperature).item() > 1e-3


def test_two_single_labels_are_the_same_with_and_without_membership():
    """The teacher's coin has the log-odds of its softmax."""
    scores, teacher = leaf(6, 2, seed=1), leaf(6, 2, seed=2)
    coins = teacher - teacher.flip(-1)
    options = {"temperature": 2.0, "teacher_temperature": 0.5}
    both = (
        csa_loss(scores, teacher, **options),
        csa_loss(scores, coins, membership=torch.eye(2, dtype=torch.bool), **options),
    )
    assert both[0].item() == pytest.approx(both[1].item(), abs=1e-14)
    assert torch.allclose(*(torch.autograd.grad(loss, scores)[0] for loss in both), atol=1e-15)


@pytest.mark.parametrize("membership", [None, SHARED, OWN])
def test_no_gradient_reaches_the_teacher(membership):
    scores, teacher = ragged_scores(), leaf(5, 3 if membership else 4, seed=1)
    csa_loss(scores, teacher, membership=membership and torch.tensor(membership)).backward()
    assert teacher.grad is None
    assert scores.grad.abs().max() > 0


def test_gradient_descent_moves_the_vlm_to_the_teacher():
    """Where the candidates can express it: here the teacher has the labels' odds under some scores."""
    membership = torch.tensor(OWN[1])
    aim = torch.tensor([[2.0, 0.0, -1.0, 1.0]])
    for teacher, options in [(aim, {}), (label_log_odds(aim, membership), {"membership": membership})]:
        scores = torch.zeros(1, 4, requires_grad=True)
        optimizer = torch.optim.SGD([scores], lr=2.0)
        for _ in range(2000):
            optimizer.zero_grad()
            csa_loss(scores, teacher, **options).backward()
            optimizer.step()
        p = label_log_odds(scores, membership).sigmoid() if options else scores.softmax(-1)
        assert torch.allclose(p, teacher.sigmoid() if options else teacher.softmax(-1), atol=1e-3)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_the_teacher_is_read_where_the_candidates_leave_something_open(garbage):
    scores, teacher = ragged_scores(), leaf(5, 4, seed=1).detach()
    dirty = teacher.masked_fill(scores.isneginf(), garbage)
    losses = [csa_loss(scores, t) for t in (teacher, dirty)]
    assert torch.equal(*losses)
    assert torch.equal(*(torch.autograd.grad(loss, scores)[0] for loss in losses))
    labels = teacher[:, :3].clone()
    dirty = labels.clone()
    dirty[:, 2] = dirty[3, 1] = dirty[4] = garbage
    losses = [csa_loss(scores, t, membership=torch.tensor(SHARED)) for t in (labels, dirty)]
    assert torch.equal(*losses)
    assert torch.equal(*(torch.autograd.grad(loss, scores)[0] for loss in losses))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_teacher_that_is_certain(sign):
    """t = 1 or 0 exactly: -log p of what it says."""
    scores, membership = leaf(1, 4, seed=1), torch.tensor(OWN[1])
    loss = csa_loss(scores, torch.full((1, 3), sign * math.inf), membership=membership)
    expected = -torch.nn.functional.logsigmoid(sign * label_log_odds(scores, membership)).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-14)
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()
    one = csa_loss(scores, torch.tensor([[0.0, -math.inf, -math.inf, -math.inf]]))
    assert one.item() == pytest.approx(-scores.log_softmax(-1)[0, 0].item(), abs=1e-14)
    assert torch.autograd.grad(one, scores)[0].isfinite().all()


def test_module_passes_its_options_on():
    scores, membership, mask, teacher = ragged_scores(), torch.tensor(OWN), torch.tensor(MASK), leaf(5, 3, seed=1)
    options = {"temperature": 3.0, "teacher_temperature": 0.5}
    module = CSALoss(**options)
    expected = csa_loss(scores, teacher, membership=membership, mask=mask, normalizer=7, **options)
    assert torch.equal(module(scores, teacher, membership=membership, mask=mask, normalizer=7), expected)
    assert list(module.parameters()) == []
    assert repr(module) == "CSALoss(temperature=3.0, teacher_temperature=0.5)"


A, B, SET = torch.ones(2, 3), torch.ones(2, 4), torch.ones(3, 4) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CSALoss(temperature=0), "temperature must be greater than 0; got 0"),
        (lambda: CSALoss(teacher_temperature=-1), "teacher_temperature must be greater than 0; got -1"),
        (lambda: csa_loss(A, A, teacher_temperature=math.nan), "teacher_temperature must be greater than 0; got nan"),
        (lambda: csa_loss(A.long(), A), "scores must be floating point; got torch.int64"),
        (lambda: csa_loss(A, A.long()), "teacher_logits must be floating point; got torch.int64"),
        (lambda: csa_loss(A, B), r"teacher_logits must have shape \(2, 3\), one value a candidate; got \(2, 4\)"),
        (lambda: csa_loss(A, A, membership=SET), r"\(2, 4\), one value a label of membership; got \(2, 3\)"),
        (lambda: csa_loss(A, B, membership=SET[:2]), r"got \(2, 4\) and scores \(2, 3\)"),
        (lambda: csa_loss(A, A, mask=A[0] > 0), r"mask must have shape \(B,\): got \(3,\) and scores \(2, 3\)"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
