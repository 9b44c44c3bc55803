"""Image ranking: by hand, what it leaves alone, precision, extremes, accumulation and invariants."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitask.losses import ImageRankingLoss, count_valid, image_ranking_loss, image_ranking_positions

from .closed_set_reference import MASK, image_ranking, ragged_scores
from .reference import leaf

TARGETS = torch.tensor([0, 1, 2, 2, 1])
HALF = [torch.float16, torch.bfloat16]
few = settings(max_examples=25, deadline=None, derandomize=True)


def test_by_hand():
    """Answer a gives its image odds of 3 against the other, answer b odds of 1 to 2: log(4/3) and log 3."""
    scores = torch.tensor([[math.log(3), math.log(2)], [0.0, 0.0]], dtype=torch.float64)
    loss = image_ranking_loss(scores, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(3)) / 2, abs=1e-15)
    squared = image_ranking_loss(scores, torch.tensor([0, 1]), temperature=0.5)
    assert squared.item() == pytest.approx((math.log(10 / 9) + math.log(5)) / 2, abs=1e-15)


def test_images_of_the_same_answer_do_not_compete():
    """Raising one of two positives lowers its own loss alone: the other's share of the gradient is untouched."""
    scores, targets = leaf(3, 2, seed=1), torch.tensor([0, 0, 1])
    (before,) = torch.autograd.grad(image_ranking_loss(scores, targets), scores)
    raised = scores.detach().clone()
    raised[0, 0] += 5
    raised.requires_grad_()
    (after,) = torch.autograd.grad(image_ranking_loss(raised, targets), raised)
    assert after[1, 0] == before[1, 0]
    assert abs(after[0, 0]) < abs(before[0, 0])


def test_no_positive_is_left_behind_by_an_easy_one():
    """The gradient at a hard positive is the full pull of a pair, however easy the other positive is."""
    scores = torch.tensor([[20.0, 0.0], [-20.0, 0.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    image_ranking_loss(scores, torch.tensor([0, 0, 1])).backward()
    assert scores.grad[1, 0].item() == pytest.approx(-1 / 3, abs=1e-8)


def test_zero_is_reached_when_every_image_beats_every_image_of_another_answer():
    scores = 100 * torch.nn.functional.one_hot(TARGETS, 3).double() + leaf(5, 3, seed=1).detach()
    assert image_ranking_loss(scores, TARGETS).item() == pytest.approx(0, abs=1e-30)


def test_answers_of_nobody_get_no_gradient():
    scores = leaf(5, 6, seed=1)
    image_ranking_loss(scores, TARGETS).backward()
    assert scores.grad[:, 3:].abs().max() == 0
    assert scores.grad[:, :3].abs().max() > 0


def test_data_sets_keep_to_themselves():
    """Two sets, each scored against its own answers: the mean over samples of what each gives alone."""
    a, b = leaf(3, 2, seed=1), leaf(4, 3, seed=2)
    joint = torch.full((7, 5), -math.inf, dtype=torch.float64)
    joint[:3, :2], joint[3:, 2:] = a.detach(), b.detach()
    targets = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2, 2])
    loss = image_ranking_loss(joint, torch.cat([targets[0], targets[1] + 2]))
    alone = [image_ranking_loss(scores, own).item() for scores, own in zip((a, b), targets, strict=True)]
    assert loss.item() == pytest.approx((3 * alone[0] + 4 * alone[1]) / 7, abs=1e-14)


def test_gradient_descent_ranks_the_images():
    scores, targets = torch.zeros(4, 2, requires_grad=True), torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.SGD([scores], lr=5.0)
    for _ in range(100):
        optimizer.zero_grad()
        image_ranking_loss(scores, targets).backward()
        optimizer.step()
    assert (scores[[0, 2], 0].min() - scores[[1, 3], 0].max()).item() > 3
    assert (scores[[1, 3], 1].min() - scores[[0, 2], 1].max()).item() > 3


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_dtypes_and_autocast(dtype):
    scores = ragged_scores().detach().to(dtype).requires_grad_()
    value = image_ranking_loss(scores, TARGETS)
    value.backward()
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert value.item() == pytest.approx(image_ranking(scores.tolist(), TARGETS.tolist())[0], rel=1e-5)
    assert scores.grad.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(image_ranking_loss(scores, TARGETS), value)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 100.0])
def test_extreme_scores(dtype, temperature):
    scores = (6e4 * ragged_scores().detach().sign()).to(dtype).requires_grad_()
    value = image_ranking_loss(scores, TARGETS, temperature=temperature)
    value.backward()
    wide = image_ranking_loss(scores.detach().double(), TARGETS, temperature=temperature)
    assert value.item() == pytest.approx(wide.item(), rel=1e-5)
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_masked_samples_reach_neither_value_nor_gradient(garbage):
    clean, mask = ragged_scores(), torch.tensor(MASK)
    dirty = clean.detach().clone()
    dirty[2] = garbage
    dirty.requires_grad_()
    value = image_ranking_loss(dirty, TARGETS.masked_fill(~mask, -100), mask=mask)
    value.backward()
    assert torch.equal(value, image_ranking_loss(clean, TARGETS, mask=mask))
    assert dirty.grad.isfinite().all()
    assert dirty.grad[2].abs().max() == 0


@pytest.mark.parametrize("normalizer", [None, 0, torch.tensor(5)])
@pytest.mark.parametrize("why", ["masked", "one answer", "padding", "empty"])
def test_nothing_counted_is_an_attached_zero(normalizer, why):
    scores, targets, mask = ragged_scores().detach(), TARGETS, torch.full((5,), why != "masked")
    if why == "one answer":
        targets = torch.full((5,), 2)
    if why == "padding":
        scores[:] = -math.inf
    if why == "empty":
        scores, targets, mask = scores[:0], targets[:0], mask[:0]
    scores.requires_grad_()
    value = image_ranking_loss(scores, targets, mask=mask, normalizer=normalizer)
    value.backward()
    assert value.item() == 0
    assert scores.grad.abs().sum() == 0


def test_micro_batches_with_a_normalizer_add_up_to_the_mean_over_all_their_samples():
    """Images are ranked within a micro-batch; the step's number of samples is known before any score is."""
    scores, parts = leaf(9, 3, seed=1), [slice(0, 4), slice(4, 6), slice(6, 9)]
    targets = torch.tensor([0, 1, 2, 2, 1, 1, 0, 1, 0])
    counts = [count_valid(image_ranking_positions(~scores[p].isneginf(), targets[p])) for p in parts]
    assert [int(count) for count in counts] == [4, 0, 3]
    total = sum(counts)
    summed = sum(image_ranking_loss(scores[p], targets[p], normalizer=total) for p in parts)
    means = [image_ranking_loss(scores[p], targets[p]).item() for p in parts]
    assert summed.item() == pytest.approx((4 * means[0] + 3 * means[2]) / 7, abs=1e-14)


@pytest.mark.slow
def test_compiles_into_one_graph():
    plain, compiled, mask = ragged_scores(), ragged_scores(), torch.tensor(MASK)
    value = image_ranking_loss(plain, TARGETS, mask=mask)
    under = torch.compile(image_ranking_loss, fullgraph=True, backend="aot_eager")(compiled, TARGETS, mask=mask)
    value.backward()
    under.backward()
    assert under.item() == pytest.approx(value.item(), abs=1e-14)
    assert torch.allclose(plain.grad, compiled.grad, atol=1e-14)


@st.composite
def batches(draw):
    """1-6 images of 1-4 answers, a few not scored against each other, and whose they are."""
    images, answers, seed = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    padding = torch.rand(images, answers, generator=generator) < 0.2
    targets = torch.randint(0, answers, (images,), generator=generator)
    return leaf(images, answers, seed=seed).detach().masked_fill(padding, -math.inf), targets, generator


@few
@given(case=batches())
def test_a_constant_an_answer_changes_nothing(case):
    """How likely an answer is before any image was seen does not matter: only images are compared."""
    scores, targets, generator = case
    shift = 30 * torch.randn(1, scores.shape[1], generator=generator, dtype=torch.float64)
    value = image_ranking_loss(scores, targets).item()
    assert image_ranking_loss(scores + shift, targets).item() == pytest.approx(value, abs=1e-11)


@few
@given(case=batches(), draw=st.randoms(use_true_random=False))
def test_the_order_of_answers_and_images_changes_nothing(case, draw: random.Random):
    scores, targets, _ = case
    rows, columns = (draw.sample(range(n), n) for n in scores.shape)
    moved = image_ranking_loss(scores[rows][:, columns], torch.tensor(columns).argsort()[targets][rows])
    assert moved.item() == pytest.approx(image_ranking_loss(scores, targets).item(), abs=1e-12)


@few
@given(case=batches(), scale=st.sampled_from([1e-3, 1.0, 1e2, 2e4]), temperature=st.sampled_from([0.5, 1.0, 3.0]))
def test_finite_and_not_negative(case, scale, temperature):
    scores, targets, _ = case
    padding = scores.isneginf()
    scores = (scale * scores.masked_fill(padding, 0.0)).masked_fill(padding, -math.inf).float().requires_grad_()
    value = image_ranking_loss(scores, targets, temperature=temperature)
    value.backward()
    assert value.isfinite()
    assert value.item() >= -1e-6
    assert scores.grad.isfinite().all()


def test_module_passes_its_options_on():
    scores, mask, module = ragged_scores(), torch.tensor(MASK), ImageRankingLoss(temperature=3.0)
    expected = image_ranking_loss(scores, TARGETS, mask=mask, temperature=3.0, normalizer=7)
    assert torch.equal(module(scores, TARGETS, mask=mask, normalizer=7), expected)
    assert list(module.parameters()) == []
    assert repr(module) == "ImageRankingLoss(temperature=3.0)"


A, INDEX = torch.ones(2, 3), torch.zeros(2).long()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ImageRankingLoss(temperature=0), "temperature must be greater than 0; got 0"),
        (lambda: image_ranking_loss(A, INDEX, temperature=math.nan), "temperature must be greater than 0; got nan"),
        (lambda: image_ranking_loss(A.long(), INDEX), "scores must be floating point; got torch.int64"),
        (lambda: image_ranking_loss(A[0], INDEX), r"scores must have shape \(B, K\), .* got \(3,\)"),
        (lambda: image_ranking_loss(A, INDEX.float()), "targets must be integers; got torch.float32"),
        (lambda: image_ranking_loss(A, A.long()), r"targets must have shape \(2,\); got \(2, 3\)"),
        (lambda: image_ranking_loss(A, INDEX, mask=INDEX), "mask must be bool; got torch.int64"),
        (lambda: image_ranking_positions(A, INDEX), "candidates must be bool; got torch.float32"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
