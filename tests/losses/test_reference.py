from __future__ import annotations

import math

import pytest

import vitask.losses as losses

from . import closed_set_reference, reference

CHECKS = reference.CHECKS | closed_set_reference.CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_agrees_with_the_loops(name):
    CHECKS[name](losses)


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


@pytest.mark.parametrize("membership", [None, closed_set_reference.SHARED, closed_set_reference.OWN])
def test_the_closed_set_loops_are_right_about_their_own_gradients(membership):
    scores, h = closed_set_reference.ragged_scores().tolist(), 1e-6
    teacher = reference.leaf(5, 3 if membership else 4, seed=1).tolist()
    targets = [[1, 0, 1]] * 5 if membership else [3, 2, 0, 2, 2]
    for function in (
        lambda: closed_set_reference.ranking(scores, targets, membership, temperature=2.0),
        lambda: closed_set_reference.csa(scores, teacher, membership, temperature=2.0, teacher_temperature=0.5),
    ):
        for b, k in [(0, 0), (0, 1), (1, 3), (3, 2)]:
            analytic = function()[1]["scores"][b][k]
            scores[b][k] += h
            above = function()[0]
            scores[b][k] -= 2 * h
            below = function()[0]
            scores[b][k] += h
            assert (above - below) / (2 * h) == pytest.approx(analytic, abs=1e-8)


@pytest.mark.parametrize("targets", closed_set_reference.IMAGE_TARGETS)
def test_the_image_ranking_loop_is_right_about_its_own_gradients(targets):
    scores, h = closed_set_reference.ragged_scores().tolist(), 1e-6
    for b, k in [(0, 0), (0, 1), (1, 2), (3, 2)]:
        analytic = closed_set_reference.image_ranking(scores, targets, temperature=2.0)[1]["scores"][b][k]
        scores[b][k] += h
        above = closed_set_reference.image_ranking(scores, targets, temperature=2.0)[0]
        scores[b][k] -= 2 * h
        below = closed_set_reference.image_ranking(scores, targets, temperature=2.0)[0]
        scores[b][k] += h
        assert (above - below) / (2 * h) == pytest.approx(analytic, abs=1e-8)


def test_the_reference_kl_of_a_coin():
    """p = (1/2, 1/2), q = (1/4, 3/4): KL = log(2)/2 + log(2/3)/2 = log(4/3)/2."""
    value, _, _ = reference.kl([0.0, 0.0], [0.0, math.log(3)])
    assert value == pytest.approx(math.log(4 / 3) / 2, abs=1e-15)
