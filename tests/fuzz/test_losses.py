"""Losses on random responses: what no shift of logits may change. Padding, order and sign are in tests/losses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ..losses.reference import V, leaf
from ..losses.test_numerics import LOSSES, ragged_batches
from .examples import examples


@pytest.mark.parametrize("name", LOSSES)
@examples(25)
@given(batch=ragged_batches(), size=st.sampled_from([-1e3, -1.0, 5.0, 1e3]))
def test_a_constant_a_position_changes_nothing(name, batch, size):
    """Softmax knows differences alone, in each branch by itself."""
    inputs, loss, _ = LOSSES[name]
    labels, seed, reduction = batch
    logits = [leaf(*labels.shape, V, seed=seed + i).detach() for i in range(inputs)]
    shift = [size * leaf(*labels.shape, 1, seed=seed + 7 + i).detach() for i in range(inputs)]
    moved = [branch + by for branch, by in zip(logits, shift, strict=True)]
    if name == "crt":  # its difference of branches moves as a whole
        assert loss(*moved, labels, reduction=reduction).isfinite()
    value = loss(*logits, labels, reduction=reduction)
    assert loss(*moved, labels, reduction=reduction).item() == pytest.approx(value.item(), abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@examples(25)
@given(batch=ragged_batches(), order=st.permutations(range(V)))
def test_names_of_tokens_do_not_matter(name, batch, order):
    inputs, loss, _ = LOSSES[name]
    labels, seed, reduction = batch
    logits = [leaf(*labels.shape, V, seed=seed + i).detach() for i in range(inputs)]
    renamed = torch.where(labels == -100, labels, torch.tensor(order).argsort()[labels.clamp(min=0)])
    value = loss(*logits, labels, reduction=reduction).item()
    assert loss(*(each[..., list(order)] for each in logits), renamed, reduction=reduction).item() == pytest.approx(
        value, abs=1e-12
    )
