"""What all three losses share: precision, extremes, empty and ragged responses, autocast, compile, accumulation."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitask.losses import count_valid, crt_loss, rda_loss, vanilla_loss

from . import reference
from .reference import V, leaf, ragged_labels

LOSSES = {
    "vanilla": (1, vanilla_loss, reference.vanilla),
    "rda": (2, rda_loss, reference.rda),
    "crt": (2, crt_loss, reference.crt),
}
HALF = [torch.float16, torch.bfloat16]
each_loss = pytest.mark.parametrize(("inputs", "loss", "expected"), LOSSES.values(), ids=LOSSES)


def branches(count: int, *shape: int, dtype: torch.dtype = torch.float64, scale: float = 2.0) -> list[Tensor]:
    return [leaf(*shape, seed=seed, scale=scale).detach().to(dtype).requires_grad_() for seed in range(count)]


def lists(logits: list[Tensor]) -> list[list]:
    return [branch.double().tolist() for branch in logits]


@each_loss
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_dtypes(inputs, loss, expected, dtype):
    """The value of what half precision holds, computed in float32; gradients come back in the logits' dtype."""
    labels = ragged_labels()
    logits = branches(inputs, *labels.shape, V, dtype=dtype)
    value = loss(*logits, labels)
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.item() == pytest.approx(expected(*lists(logits), labels.tolist())[0], rel=1e-6)
    assert logits[0].grad.dtype == dtype


@each_loss
@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
@pytest.mark.parametrize("extreme", [1e4, 6e4])
def test_extreme_logits(inputs, loss, expected, dtype, extreme):
    labels = ragged_labels()
    signs = [branch.detach().sign() for branch in branches(inputs, *labels.shape, V)]
    logits = [(extreme * sign).to(dtype).requires_grad_() for sign in signs]
    value = loss(*logits, labels)
    value.backward()
    assert value.item() == pytest.approx(expected(*lists(logits), labels.tolist())[0], rel=1e-5)
    assert all(branch.grad is None or branch.grad.isfinite().all() for branch in logits)


@each_loss
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_what_is_not_response_reaches_neither_value_nor_gradient(inputs, loss, expected, garbage):
    labels = ragged_labels()
    clean = branches(inputs, *labels.shape, V)
    dirty = [branch.detach().clone() for branch in clean]
    for branch in dirty:
        branch[labels == -100] = garbage
        branch.requires_grad_()
    value = loss(*dirty, labels)
    value.backward()
    assert torch.equal(value, loss(*clean, labels))
    assert dirty[0].grad.isfinite().all()
    assert dirty[0].grad[labels == -100].abs().max() == 0


@each_loss
@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 0), (0, 3), (0, 0), (0,)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_no_response_is_an_attached_zero(inputs, loss, expected, reduction, shape, dtype):
    logits = branches(inputs, *shape, V, dtype=dtype)
    value = loss(*logits, torch.full(shape, -100), reduction=reduction)
    value.backward()
    assert value.item() == 0
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert logits[0].grad.abs().sum() == 0


@each_loss
def test_integer_labels_of_any_width(inputs, loss, expected):
    labels = ragged_labels()
    logits = branches(inputs, *labels.shape, V)
    assert torch.equal(loss(*logits, labels.int()), loss(*logits, labels))
    assert torch.equal(loss(*logits, labels.to(torch.int16)), loss(*logits, labels))


@each_loss
def test_branches_of_different_dtypes_are_computed_in_the_wider(inputs, loss, expected):
    labels = ragged_labels()
    logits = branches(inputs, *labels.shape, V, dtype=torch.bfloat16)
    wide = [*logits[:-1], logits[-1].detach().double().requires_grad_()]
    value = loss(*wide, labels)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(expected(*lists(wide), labels.tolist())[0], rel=1e-6)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_autocast_changes_nothing(inputs, loss, expected, dtype):
    labels = ragged_labels()
    plain, cast = (branches(inputs, *labels.shape, V, dtype=dtype) for _ in range(2))
    value = loss(*plain, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = loss(*cast, labels)
    value.backward()
    under.backward()
    assert under.dtype == value.dtype
    assert torch.equal(under, value)
    assert torch.equal(plain[0].grad, cast[0].grad)


@pytest.mark.slow
@each_loss
def test_compiles_into_one_graph(inputs, loss, expected):
    labels = ragged_labels()
    plain, compiled = (branches(inputs, *labels.shape, V) for _ in range(2))
    value = loss(*plain, labels)
    under = torch.compile(loss, fullgraph=True, backend="aot_eager")(*compiled, labels)
    value.backward()
    under.backward()
    assert under.item() == pytest.approx(value.item(), abs=1e-14)
    assert torch.allclose(plain[0].grad, compiled[0].grad, atol=1e-14)


@each_loss
@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_micro_batches_with_a_normalizer_are_one_batch(inputs, loss, expected, reduction, size):
    labels = ragged_labels()
    whole, parts = (branches(inputs, *labels.shape, V) for _ in range(2))
    total = count_valid(labels != -100, reduction)
    value = loss(*whole, labels, reduction=reduction)
    value.backward()
    accumulated = 0.0
    for *pieces, piece_labels in zip(*(branch.split(size) for branch in parts), labels.split(size), strict=True):
        step = loss(*pieces, piece_labels, reduction=reduction, normalizer=total)
        step.backward()
        accumulated += step.item()
    assert accumulated == pytest.approx(value.item(), abs=1e-14)
    assert torch.allclose(whole[0].grad, parts[0].grad, atol=1e-15)


@st.composite
def ragged_batches(draw):
    """Labels of 1-4 rows and 1-4 columns with holes anywhere, and a seed for the logits."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    token = st.one_of(st.just(-100), st.integers(0, V - 1))
    labels = draw(st.lists(st.lists(token, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    return torch.tensor(labels), draw(st.integers(0, 999)), draw(st.sampled_from(["token", "sequence"]))


few = settings(max_examples=25, deadline=None, derandomize=True)


@each_loss
@few
@given(batch=ragged_batches())
def test_padding_changes_nothing(inputs, loss, expected, batch):
    labels, seed, reduction = batch
    logits = [leaf(*labels.shape, V, seed=seed + i).detach() for i in range(inputs)]
    padding = torch.full((len(labels), 2), -100), torch.randn(len(labels), 2, V)
    longer = [torch.cat([padding[1], branch, padding[1]], 1) for branch in logits]
    padded = loss(*longer, torch.cat([padding[0], labels, padding[0]], 1), reduction=reduction)
    assert padded.item() == pytest.approx(loss(*logits, labels, reduction=reduction).item(), abs=1e-12)


@each_loss
@few
@given(batch=ragged_batches(), order=st.randoms(use_true_random=False))
def test_the_order_of_the_batch_changes_nothing(inputs, loss, expected, batch, order: random.Random):
    labels, seed, reduction = batch
    logits = [leaf(*labels.shape, V, seed=seed + i).detach() for i in range(inputs)]
    rows = order.sample(range(len(labels)), len(labels))
    shuffled = loss(*(branch[rows] for branch in logits), labels[rows], reduction=reduction)
    assert shuffled.item() == pytest.approx(loss(*logits, labels, reduction=reduction).item(), abs=1e-12)


@each_loss
@few
@given(
    batch=ragged_batches(),
    scale=st.sampled_from([1e-3, 1.0, 1e2, 2e4]),
    dtype=st.sampled_from([*HALF, torch.float32, torch.float64]),
)
def test_finite_and_not_negative(inputs, loss, expected, batch, scale, dtype):
    labels, seed, reduction = batch
    values = [leaf(*labels.shape, V, seed=seed + i, scale=scale).detach() for i in range(inputs)]
    logits = [branch.clamp(-6e4, 6e4).to(dtype).requires_grad_() for branch in values]
    value = loss(*logits, labels, reduction=reduction)
    value.backward()
    assert value.isfinite()
    assert value.item() >= -1e-6
    assert logits[0].grad.isfinite().all()
