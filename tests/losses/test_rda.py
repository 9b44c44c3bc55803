from __future__ import annotations

import math

import pytest
import torch

from vitask.losses import RDALoss, rda_loss

from .reference import leaf, ragged_labels


def test_by_hand():
    """p = (1/2, 1/2) for the student, q = (1/4, 3/4) for the teacher.

    KL(p || q) = log(2)/2 + log(2/3)/2 = log(4/3)/2. KL(q || p) = log(1/2)/4 + 3 log(3/2)/4 = log(27/16)/4.
    """
    student, teacher = torch.zeros(1, 2).double(), torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    label = torch.tensor([0])
    assert rda_loss(student, teacher, label).item() == pytest.approx(math.log(4 / 3) / 2, abs=1e-15)
    reverse = rda_loss(student, teacher, label, direction="teacher_first")
    assert reverse.item() == pytest.approx(math.log(27 / 16) / 4, abs=1e-15)


def test_temperature_by_hand():
    """At T = 2 the teacher's logits (0, 2 log 3) become (0, log 3): 4 times the KL of the case above."""
    student, teacher = torch.zeros(1, 2).double(), torch.tensor([[0.0, 2 * math.log(3)]], dtype=torch.float64)
    loss = rda_loss(student, teacher, torch.tensor([0]), temperature=2.0)
    assert loss.item() == pytest.approx(2 * math.log(4 / 3), abs=1e-14)


@pytest.mark.parametrize("direction", ["student_first", "teacher_first"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_zero_for_equal_logits_and_positive_otherwise(direction, temperature):
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    assert rda_loss(a, a, labels, direction=direction, temperature=temperature).item() == 0
    assert rda_loss(a, a + 5, labels, direction=direction, temperature=temperature).item() == pytest.approx(
        0, abs=1e-14
    )
    assert rda_loss(a, b, labels, direction=direction, temperature=temperature).item() > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_never_negative_beyond_rounding(dtype):
    for seed in range(20):
        a = leaf(4, 50, seed=seed, scale=8).detach()
        b = a + 1e-3 * leaf(4, 50, seed=seed + 100).detach()
        assert rda_loss(a.to(dtype), b.to(dtype), torch.zeros(4).long()).item() >= -1e-6


def test_no_gradient_reaches_the_detached_teacher():
    labels, student, teacher = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    rda_loss(student, teacher, labels).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0
    RDALoss(detach_teacher=False)(student, teacher, labels).backward()
    assert teacher.grad.abs().max() > 0


def test_gradient_descent_moves_the_student_to_the_teacher():
    student, teacher, label = torch.zeros(1, 4, requires_grad=True), torch.tensor([[2.0, 0, -1, 1]]), torch.tensor([0])
    optimizer = torch.optim.SGD([student], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        rda_loss(student, teacher, label).backward()
        optimizer.step()
    assert torch.allclose(student.softmax(-1), teacher.softmax(-1), atol=1e-3)


def test_a_vocabulary_masked_in_both_branches_is_as_if_it_were_not_there():
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    masked = [torch.cat([x.detach(), torch.full((5, 5, 3), -math.inf)], -1).requires_grad_() for x in (a, b)]
    for detach in (True, False):
        expected = torch.autograd.grad(rda_loss(a, b, labels, detach_teacher=detach), [a] if detach else [a, b])
        loss = rda_loss(*masked, labels, detach_teacher=detach)
        actual = torch.autograd.grad(loss, masked[: len(expected)])
        assert loss.item() == pytest.approx(rda_loss(a, b, labels).item(), abs=1e-14)
        for x, y in zip(actual, expected, strict=True):
            assert torch.allclose(x[..., :7], y, atol=1e-14)
            assert x[..., 7:].abs().max() == 0


def test_zero_probability_against_a_ruled_out_token_is_zero_not_nan():
    """p underflows to exactly 0 at a token that q rules out: 0 log 0 is 0, in the gradient as well."""
    student = torch.tensor([[0.0, 0.0, -1e4]], requires_grad=True)
    teacher = torch.tensor([[0.0, 0.0, -math.inf]])
    loss = rda_loss(student, teacher, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0
    assert student.grad.abs().max() == 0


def test_kl_is_infinite_where_it_is_defined_so():
    assert rda_loss(torch.zeros(1, 2), torch.tensor([[0.0, -math.inf]]), torch.tensor([0])).item() == math.inf


def test_the_value_of_a_label_does_not_matter():
    a, b = leaf(2, 3, 5, seed=1), leaf(2, 3, 5, seed=2)
    one, other = torch.tensor([[1, 2, -100], [3, 4, 0]]), torch.tensor([[0, 0, -100], [1, 1, 1]])
    assert torch.equal(rda_loss(a, b, one), rda_loss(a, b, other))


def test_a_teacher_that_errs_teaches_nothing_and_still_counts():
    """Two tokens, the teacher right at the first alone: half of the first token's KL, and no gradient at the second."""
    student = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]], dtype=torch.float64)
    loss = rda_loss(student, teacher, torch.tensor([1, 0]), mask="teacher_right")
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4 / 3) / 4, abs=1e-15)
    assert student.grad[0].abs().max() > 0
    assert student.grad[1].abs().max() == 0


def test_garbage_where_the_teacher_errs_reaches_neither_value_nor_gradient():
    labels = torch.tensor([1, 0])
    student = torch.tensor([[0.0, 1.0], [math.inf, math.nan]], requires_grad=True)
    teacher = torch.tensor([[0.0, 2.0], [-math.inf, 1.0]])
    loss = rda_loss(student, teacher, labels, mask="teacher_right")
    loss.backward()
    assert loss.item() == pytest.approx(rda_loss(student[:1], teacher[:1], labels[:1]).item() / 2)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_a_teacher_that_is_right_everywhere_is_not_masked(reduction):
    labels, student = ragged_labels(), leaf(5, 5, 7, seed=1)
    teacher = leaf(5, 5, 7, seed=2).detach().scatter(-1, labels.clamp(min=0).unsqueeze(-1), 30.0)
    masked, plain = (rda_loss(student, teacher, labels, mask=m, reduction=reduction) for m in ("teacher_right", "none"))
    assert torch.equal(masked, plain)


def test_module_passes_its_options_on():
    labels, a, b = ragged_labels(), leaf(5, 5, 7, seed=1), leaf(5, 5, 7, seed=2)
    options = {"temperature": 3.0, "direction": "teacher_first", "detach_teacher": False, "reduction": "sequence"}
    options["mask"] = "teacher_right"
    module = RDALoss(**options)
    assert torch.equal(module(a, b, labels, normalizer=3), rda_loss(a, b, labels, normalizer=3, **options))
    assert list(module.parameters()) == []
    assert repr(module) == (
        "RDALoss(temperature=3.0, direction='teacher_first', detach_teacher=False, "
        "mask='teacher_right', reduction='sequence', ignore_index=-100)"
    )


A, B, LABEL = torch.ones(1, 2), torch.ones(1, 3), torch.tensor([0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RDALoss(temperature=0), "temperature must be greater than 0; got 0"),
        (lambda: RDALoss(temperature=math.nan), "temperature must be greater than 0; got nan"),
        (lambda: RDALoss(direction="forward"), "'student_first', 'teacher_first'; got 'forward'"),
        (lambda: RDALoss(mask="right"), "'none', 'teacher_right'; got 'right'"),
        (lambda: RDALoss(reduction="mean"), "'token', 'sequence'; got 'mean'"),
        (lambda: rda_loss(A, A, LABEL, temperature=-1.0), "temperature must be greater than 0; got -1.0"),
        (lambda: rda_loss(A, A, LABEL, direction="forward"), "'student_first', 'teacher_first'; got 'forward'"),
        (lambda: rda_loss(A, A, LABEL, reduction="mean"), "'token', 'sequence'; got 'mean'"),
        (lambda: rda_loss(A, B, LABEL), r"student_logits \(1, 2\), teacher_logits \(1, 3\), labels \(1,\)"),
        (lambda: rda_loss(A, A.long(), LABEL), "teacher_logits must be floating point; got torch.int64"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
