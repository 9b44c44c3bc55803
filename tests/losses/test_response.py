from __future__ import annotations

import math

import pytest
import torch

from vitask.losses import (
    IGNORE_INDEX,
    count_valid,
    masked_mean,
    response_positions,
    select_response,
    shift_response,
    vanilla_loss,
)

I = IGNORE_INDEX  # noqa: E741


def test_ignore_index_is_that_of_torch_and_transformers():
    assert I == torch.nn.CrossEntropyLoss().ignore_index == -100


def test_branches_with_prefixes_of_different_lengths_align():
    """The same responses after a prompt of 3 tokens and after one of 5: equal hidden content must come out equal."""
    short = torch.tensor([[I, I, I, 7, 8, 9], [I, I, I, 4, 9, I]])
    long = torch.tensor([[I, I, I, I, I, 7, 8, 9], [I, I, I, I, I, 4, 9, I]])
    logits = torch.randn(2, 8, 10)
    a, a_labels = select_response(logits[:, 2:], short)
    b, b_labels = select_response(logits, long)
    assert torch.equal(a_labels, b_labels)
    assert a_labels.tolist() == [[7, 8, 9], [4, 9, I]]
    assert torch.equal(a[a_labels != I], b[b_labels != I])


def test_rows_of_one_batch_may_start_anywhere():
    labels = torch.tensor([[I, 5, 6, I, I], [I, I, I, I, 5], [I, I, I, I, I]])
    positions, mask = response_positions(labels)
    assert positions.tolist() == [[0, 1], [3, 0], [0, 0]]
    assert mask.tolist() == [[True, True], [True, False], [False, False]]
    assert positions.dtype == torch.int64
    assert mask.dtype == torch.bool


def test_hidden_states_selected_before_the_head_give_the_same_loss():
    labels = torch.tensor([[I, I, 5, 6], [I, 3, I, I]])
    hidden, head = torch.randn(2, 4, 8, dtype=torch.float64), torch.nn.Linear(8, 11).double()
    selected, aligned = select_response(hidden, labels)
    assert vanilla_loss(head(selected), aligned).item() == pytest.approx(
        vanilla_loss(*shift_response(head(hidden), labels)).item(), abs=1e-12
    )


@pytest.mark.parametrize("shape", [(2, 4), (2, 1), (2, 0), (0, 4), (0, 0)])
def test_all_empty_gives_no_position(shape):
    logits = torch.randn(*shape, 6, requires_grad=True)
    selected, labels = select_response(logits, torch.full(shape, I))
    assert selected.shape == (shape[0], 0, 6)
    assert labels.shape == (shape[0], 0)
    loss = vanilla_loss(selected, labels)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_the_first_token_of_a_sequence_has_no_prediction():
    selected, labels = select_response(torch.randn(1, 3, 4), torch.tensor([[1, 2, I]]))
    assert labels.tolist() == [[2]]
    assert selected.shape == (1, 1, 4)


def test_gradient_goes_to_the_selected_positions_alone():
    logits = torch.randn(2, 4, 5, requires_grad=True)
    selected, labels = select_response(logits, torch.tensor([[I, I, 1, 2], [I, I, I, 3]]))
    vanilla_loss(selected, labels).backward()
    touched = logits.grad.abs().sum(-1) > 0
    assert touched.tolist() == [[False, True, True, False], [False, False, True, False]]


def test_another_ignore_index():
    _, labels = select_response(torch.randn(1, 4, 5), torch.tensor([[-1, -1, 3, -1]]), ignore_index=-1)
    assert labels.tolist() == [[3]]


def test_masked_mean_by_hand():
    """Rows [1, 3], [8], []: tokens (1 + 3 + 8) / 3 = 4; sequences (2 + 8) / 2 = 5; over 6 of them 12/6 and 10/6."""
    values = torch.tensor([[1.0, 3.0], [8.0, math.nan], [math.inf, -math.inf]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    assert masked_mean(values, mask).item() == 4
    assert masked_mean(values, mask, "sequence").item() == 5
    assert masked_mean(values, mask, normalizer=6).item() == 2
    assert masked_mean(values, mask, "sequence", normalizer=torch.tensor(6)).item() == pytest.approx(10 / 6)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("normalizer", [None, 0, 0.0, torch.tensor(0), torch.tensor(5.0)])
def test_nothing_valid_is_an_attached_finite_zero(reduction, normalizer):
    values = torch.tensor([[math.nan, math.inf], [-math.inf, 1.0]], requires_grad=True)
    mean = masked_mean(values, torch.zeros(2, 2, dtype=torch.bool), reduction, normalizer)
    mean.backward()
    assert mean.item() == 0
    assert values.grad.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_gradients_are_finite_beside_garbage(reduction):
    values = torch.tensor([[1.0, math.nan], [math.inf, 2.0]], requires_grad=True)
    masked_mean(values, torch.tensor([[True, False], [False, True]]), reduction).backward()
    assert values.grad.tolist() == [[0.5, 0], [0, 0.5]]


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_summed_counts_make_micro_batches_one_batch(reduction):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    mask = torch.rand(8, 5, generator=generator) < 0.4
    mask[3] = False
    whole = masked_mean(values, mask, reduction)
    for size in (1, 2, 4):
        total = sum(count_valid(m, reduction) for m in mask.split(size))
        parts = [masked_mean(v, m, reduction, total) for v, m in zip(values.split(size), mask.split(size), strict=True)]
        assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_summed_in_float32(dtype):
    mean = masked_mean(torch.full((4, 1000), 60.0, dtype=dtype), torch.ones(4, 1000, dtype=torch.bool))
    assert mean.dtype == torch.float32
    assert mean.item() == 60


def test_the_value_of_a_tensor_is_not_looked_at():
    """A tensor without data stands for one whose device is still at work; reading it would raise."""
    values, mask = torch.ones(2, device="meta"), torch.ones(2, dtype=torch.bool, device="meta")
    assert masked_mean(values, mask, normalizer=torch.tensor(-2.0, device="meta")).is_meta
    assert masked_mean(torch.ones(2), torch.ones(2) > 0, normalizer=torch.tensor(-2)).item() == -1


def test_a_normalizer_of_another_dtype_does_not_change_the_dtype():
    mean = masked_mean(torch.ones(2), torch.ones(2, dtype=torch.bool), normalizer=torch.tensor(2.0).double())
    assert mean.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masked_mean(torch.ones(2, 3), torch.ones(2, 1) > 0), r"\(2, 3\) and \(2, 1\)"),
        (lambda: masked_mean(torch.ones(2), torch.ones(2)), "mask must be bool; got torch.float32"),
        (lambda: masked_mean(torch.ones(2), torch.ones(2) > 0, "none"), "'token', 'sequence'; got 'none'"),
        (lambda: count_valid(torch.ones(2) > 0, "sum"), "'token', 'sequence'; got 'sum'"),
        (lambda: masked_mean(torch.ones(2), torch.ones(2) > 0, normalizer=-1), "not be negative"),
        (lambda: masked_mean(torch.ones(2), torch.ones(2) > 0, normalizer=torch.ones(2)), r"one number.*\(2,\)"),
        (lambda: shift_response(torch.ones(2, 3, 4), torch.ones(2, 4).long()), r"\(2, 3, 4\) and labels \(2, 4\)"),
        (lambda: select_response(torch.ones(2, 3, 4), torch.ones(2, 4).long()), r"\(2, 3, 4\) and labels \(2, 4\)"),
        (lambda: response_positions(torch.ones(3).long()), r"shape \(B, T\); got \(3,\)"),
        (lambda: response_positions(torch.ones(2, 3)), "labels must be integers; got torch.float32"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
