"""What both closed-set losses share: precision, extremes, padding, autocast, compile, accumulation, invariants."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitask.losses import closed_set_positions, count_valid, csa_loss, ranking_loss

from . import closed_set_reference as reference
from .closed_set_reference import MASK, OWN, SHARED, B, K, L, ragged_scores
from .reference import leaf

LOSSES = {"ranking": (ranking_loss, reference.ranking), "csa": (csa_loss, reference.csa)}
SETS = {"single": None, "shared": SHARED, "own": OWN}
HALF = [torch.float16, torch.bfloat16]
each_loss = pytest.mark.parametrize(("name", "loss", "expected"), [(n, *fs) for n, fs in LOSSES.items()], ids=LOSSES)
each_set = pytest.mark.parametrize("answers", SETS.values(), ids=SETS)


def truth(name: str, answers, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """What the loss compares the scores of `ragged_scores` with."""
    if name == "csa":
        return leaf(B, L if answers else K, seed=9).detach().to(dtype)
    return torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0]] if answers else [3, 2, 0, 2, 2])


def as_tensor(answers) -> torch.Tensor | None:
    return None if answers is None else torch.tensor(answers)


def scores_in(dtype: torch.dtype) -> torch.Tensor:
    return ragged_scores().detach().to(dtype).requires_grad_()


@each_loss
@each_set
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_dtypes(name, loss, expected, answers, dtype):
    """The value of what half precision holds, computed in float32; gradients come back in the scores' dtype."""
    scores, other = scores_in(dtype), truth(name, answers, dtype)
    value = loss(scores, other, membership=as_tensor(answers))
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.item() == pytest.approx(expected(scores.tolist(), other.tolist(), answers)[0], rel=1e-5)
    assert scores.grad.dtype == dtype


@each_loss
@each_set
@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
@pytest.mark.parametrize("extreme", [1e4, 6e4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 100.0])
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_extreme_scores(name, loss, expected, answers, dtype, extreme, temperature):
    """Probabilities underflow to exactly 0 and 1; the loss is the one of float64, and the backward pass has no NaN."""
    scores = (extreme * ragged_scores().detach().sign()).to(dtype).requires_grad_()
    other, options = truth(name, answers), {"membership": as_tensor(answers), "temperature": temperature}
    if name == "csa":
        other = (extreme * other.sign()).to(dtype)
    with torch.autograd.detect_anomaly(check_nan=True):
        value = loss(scores, other, **options)
        value.backward()
    wide = loss(scores.detach().double(), other.double() if name == "csa" else other, **options)
    assert value.item() == pytest.approx(wide.item(), rel=1e-5)
    assert value.isfinite()
    assert scores.grad.isfinite().all()


@each_loss
@each_set
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_masked_samples_reach_neither_value_nor_gradient(name, loss, expected, answers, garbage):
    other, options = truth(name, answers), {"membership": as_tensor(answers), "mask": torch.tensor(MASK)}
    clean = ragged_scores()
    dirty = clean.detach().clone()
    dirty[2] = garbage
    dirty.requires_grad_()
    broken = other.clone()
    if name == "csa":
        broken[2] = garbage
    value = loss(dirty, broken, **options)
    value.backward()
    assert torch.equal(value, loss(clean, other, **options))
    assert dirty.grad.isfinite().all()
    assert dirty.grad[2].abs().max() == 0


@each_loss
@each_set
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("normalizer", [None, 0, torch.tensor(5)])
@pytest.mark.parametrize("why", ["masked", "settled", "padding", "empty"])
def test_nothing_counted_is_an_attached_zero(name, loss, expected, answers, dtype, normalizer, why):
    """All samples masked, one candidate each, none at all, or a batch without samples."""
    scores, other, membership = ragged_scores().detach().to(dtype), truth(name, answers, dtype), as_tensor(answers)
    mask = torch.full((B,), why != "masked")
    if why == "settled":
        scores[:, 1:] = -math.inf
    if why == "padding":
        scores[:] = -math.inf
    if why == "empty":
        scores, other, mask = scores[:0], other[:0], mask[:0]
        membership = membership[:0] if answers is OWN else membership
    scores.requires_grad_()
    value = loss(scores, other, membership=membership, mask=mask, normalizer=normalizer)
    value.backward()
    assert value.item() == 0
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert scores.grad.abs().sum() == 0


@each_loss
@each_set
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_autocast_changes_nothing(name, loss, expected, answers, dtype):
    other, options = truth(name, answers, dtype), {"membership": as_tensor(answers)}
    plain, cast = scores_in(dtype), scores_in(dtype)
    value = loss(plain, other, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = loss(cast, other, **options)
    value.backward()
    under.backward()
    assert under.dtype == value.dtype
    assert torch.equal(under, value)
    assert torch.equal(plain.grad, cast.grad)


@pytest.mark.slow
@each_loss
@each_set
def test_compiles_into_one_graph(name, loss, expected, answers):
    other, options = truth(name, answers), {"membership": as_tensor(answers), "mask": torch.tensor(MASK)}
    plain, compiled = ragged_scores(), ragged_scores()
    value = loss(plain, other, **options)
    under = torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled, other, **options)
    value.backward()
    under.backward()
    assert under.item() == pytest.approx(value.item(), abs=1e-14)
    assert torch.allclose(plain.grad, compiled.grad, atol=1e-14)


@each_loss
@each_set
@pytest.mark.parametrize("size", [1, 2, 3])
def test_micro_batches_with_a_normalizer_are_one_batch(name, loss, expected, answers, size):
    """The number divided by is known before any score is: it takes the candidates alone."""
    whole, parts, other = ragged_scores(), ragged_scores(), truth(name, answers)
    membership, mask = as_tensor(answers), torch.tensor(MASK)
    total = count_valid(closed_set_positions(~whole.isneginf(), membership=membership, mask=mask), "sequence")
    value = loss(whole, other, membership=membership, mask=mask)
    value.backward()
    accumulated = 0.0
    for rows in torch.arange(B).split(size):
        own = membership[rows] if answers is OWN else membership
        step = loss(parts[rows], other[rows], membership=own, mask=mask[rows], normalizer=total)
        step.backward()
        accumulated += step.item()
    assert accumulated == pytest.approx(value.item(), abs=1e-14)
    assert torch.allclose(whole.grad, parts.grad, atol=1e-15)


few = settings(max_examples=25, deadline=None, derandomize=True)


@st.composite
def closed_sets(draw):
    """1-4 rows of 1-5 candidates of 1-4 labels, a few candidates padded, their membership, and a seed."""
    rows, candidates, labels = (draw(st.integers(1, n)) for n in (4, 5, 4))
    seed = draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    shape = draw(st.sampled_from([None, (candidates, labels), (rows, candidates, labels)]))
    membership = shape and torch.rand(shape, generator=generator) < 0.5
    scores = leaf(rows, candidates, seed=seed).detach()
    padding = torch.rand(rows, candidates, generator=generator) < 0.2
    return scores.masked_fill(padding, -math.inf), membership, generator


def drawn_truth(name, scores, membership, generator):
    """A teacher, labels, or the likeliest candidate (never a padded one, unless all are)."""
    shape = scores.shape if membership is None else (len(scores), membership.shape[-1])
    if name == "csa":
        return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return scores.argmax(-1) if membership is None else torch.randint(0, 2, shape, generator=generator)


@each_loss
@few
@given(case=closed_sets())
def test_a_constant_a_row_changes_nothing(name, loss, expected, case):
    scores, membership, generator = case
    other = drawn_truth(name, scores, membership, generator)
    shift = 30 * torch.randn(len(scores), 1, generator=generator, dtype=torch.float64)
    value = loss(scores, other, membership=membership).item()
    assert loss(scores + shift, other, membership=membership).item() == pytest.approx(value, abs=1e-11)


@each_loss
@few
@given(case=closed_sets(), draw=st.randoms(use_true_random=False))
def test_the_order_of_candidates_and_samples_changes_nothing(name, loss, expected, case, draw: random.Random):
    scores, membership, generator = case
    other = drawn_truth(name, scores, membership, generator)
    value = loss(scores, other, membership=membership).item()
    rows, columns = (draw.sample(range(n), n) for n in scores.shape)
    if membership is None:
        other = other[:, columns] if name == "csa" else torch.tensor(columns).argsort()[other]
    else:
        membership = membership[columns] if membership.ndim == 2 else membership[rows][:, columns]
    moved = loss(scores[rows][:, columns], other[rows], membership=membership).item()
    assert moved == pytest.approx(value, abs=1e-12)


@each_loss
@few
@given(case=closed_sets())
def test_padding_changes_nothing(name, loss, expected, case):
    scores, membership, generator = case
    other = drawn_truth(name, scores, membership, generator)
    value = loss(scores, other, membership=membership).item()
    longer = torch.cat([scores, torch.full((len(scores), 2), -math.inf, dtype=torch.float64)], -1)
    if membership is not None:
        extra = torch.ones(*membership.shape[:-2], 2, membership.shape[-1], dtype=torch.bool)
        membership = torch.cat([membership, extra], -2)
    elif name == "csa":
        other = torch.cat([other, torch.full((len(other), 2), math.nan)], -1)
    assert loss(longer, other, membership=membership).item() == pytest.approx(value, abs=1e-12)


@each_loss
@few
@given(
    case=closed_sets(),
    scale=st.sampled_from([1e-3, 1.0, 1e2, 2e4]),
    dtype=st.sampled_from([*HALF, torch.float32, torch.float64]),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_finite_and_not_negative(name, loss, expected, case, scale, dtype, temperature):
    scores, membership, generator = case
    other = drawn_truth(name, scores, membership, generator)
    padding = scores.isneginf()
    scores = (scale * scores).clamp(-6e4, 6e4).masked_fill(padding, -math.inf).to(dtype).requires_grad_()
    if name == "csa":
        other = (scale * other).clamp(-6e4, 6e4).to(dtype)
    value = loss(scores, other, membership=membership, temperature=temperature)
    value.backward()
    assert value.isfinite()
    assert value.item() >= -1e-6 * temperature**2
    assert scores.grad.isfinite().all()
