from __future__ import annotations

import math

import pytest

import vitask.losses as losses

from . import reference


@pytest.mark.parametrize("name", reference.CHECKS)
def test_agrees_with_the_loops(name):
    reference.CHECKS[name](losses)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: (x["vanilla"], reference.vanilla(*x["rows"]("a", "labels"))),
        lambda x: (x["rda"], reference.rda(*x["rows"]("a", "b", "labels"))),
        lambda x: (x["crt"], reference.crt(*x["rows"]("a", "b", "labels"))),
    ],
    ids=["vanilla", "rda", "crt"],
)
def test_modules_agree_with_the_loops(make):
    labels = reference.ragged_labels()
    data = {"a": reference.leaf(5, 5, 7, seed=1), "b": reference.leaf(5, 5, 7, seed=2), "labels": labels}
    values = {
        "vanilla": losses.VanillaLoss()(data["a"], labels),
        "rda": losses.RDALoss()(data["a"], data["b"], labels),
        "crt": losses.CRTLoss()(data["a"], data["b"], labels),
        "rows": lambda *names: [data[name].tolist() for name in names],
    }
    actual, (expected, _) = make(values)
    assert actual.item() == pytest.approx(expected, abs=1e-12)


def test_the_loops_are_right_about_their_own_gradients():
    """The analytic gradients of the reference against central differences of its own values."""
    labels, h = [[3, 5, reference.IGNORE]], 1e-6
    a, b = (reference.leaf(1, 3, 7, seed=s).tolist() for s in (1, 2))
    for function, name, nudged in [
        (lambda: reference.vanilla(a, labels), "logits", a),
        (lambda: reference.rda(a, b, labels, 2.0, detach_teacher=False), "student", a),
        (lambda: reference.rda(a, b, labels, 2.0, detach_teacher=False), "teacher", b),
        (lambda: reference.rda(a, b, labels, 2.0, "teacher_first", False), "teacher", b),
        (lambda: reference.crt(a, b, labels), "negative", b),
    ]:
        analytic = function()[1][name][0][1][4]
        nudged[0][1][4] += h
        above = function()[0]
        nudged[0][1][4] -= 2 * h
        below = function()[0]
        nudged[0][1][4] += h
        assert (above - below) / (2 * h) == pytest.approx(analytic, abs=1e-8), name


def test_the_reference_kl_of_a_coin():
    """p = (1/2, 1/2), q = (1/4, 3/4): KL = log(2)/2 + log(2/3)/2 = log(4/3)/2."""
    value, _, _ = reference.kl([0.0, 0.0], [0.0, math.log(3)])
    assert value == pytest.approx(math.log(4 / 3) / 2, abs=1e-15)
