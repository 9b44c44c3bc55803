from __future__ import annotations

import math

import pytest
import torch

from vitask.losses import VanillaLoss, vanilla_loss


def test_by_hand():
    """Vocabulary of two. Logits (0, log 3) give p = (1/4, 3/4); (0, 0) gives (1/2, 1/2).

    Row 1: label 1 then label 0: -log(3/4), log 2. Row 2: label 0: log 4.
    Tokens: (log(4/3) + log 2 + log 4) / 3 = log(32/3) / 3. Sequences: (log(8/3)/2 + log 4) / 2.
    """
    lean, even = [0.0, math.log(3)], [0.0, 0.0]
    logits = torch.tensor([[lean, even], [lean, even]], dtype=torch.float64)
    labels = torch.tensor([[1, 0], [0, -100]])
    assert vanilla_loss(logits, labels).item() == pytest.approx(math.log(32 / 3) / 3, abs=1e-15)
    by_sequence = vanilla_loss(logits, labels, reduction="sequence").item()
    assert by_sequence == pytest.approx((math.log(8 / 3) / 2 + math.log(4)) / 2, abs=1e-15)


def test_flat_rows_of_logits_will_do():
    """The shape `[N, V]` that packed branches give."""
    logits, labels = torch.randn(2, 3, 5, dtype=torch.float64), torch.tensor([[1, 2, 3], [4, -100, -100]])
    flat = vanilla_loss(logits.reshape(6, 5), labels.reshape(6))
    assert flat.item() == pytest.approx(vanilla_loss(logits, labels).item(), abs=1e-15)


def test_a_single_position_will_do():
    assert vanilla_loss(torch.zeros(4), torch.tensor(2)).item() == pytest.approx(math.log(4))


def test_another_ignore_index():
    logits = torch.randn(1, 3, 5)
    assert torch.equal(
        vanilla_loss(logits, torch.tensor([[1, 2, -1]]), ignore_index=-1),
        vanilla_loss(logits, torch.tensor([[1, 2, -100]])),
    )


def test_a_label_in_a_ruled_out_token_costs_infinity():
    assert vanilla_loss(torch.tensor([[0.0, -torch.inf]]), torch.tensor([1])).item() == math.inf


def test_module_passes_its_options_on():
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, 2, 3], [4, -1, -1]])
    module = VanillaLoss(reduction="sequence", ignore_index=-1)
    expected = vanilla_loss(logits, labels, reduction="sequence", normalizer=7, ignore_index=-1)
    assert torch.equal(module(logits, labels, normalizer=7), expected)
    assert list(module.parameters()) == []
    assert repr(module) == "VanillaLoss(reduction='sequence', ignore_index=-1)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VanillaLoss(reduction="mean"), "reduction must be one of 'token', 'sequence'; got 'mean'"),
        (lambda: vanilla_loss(torch.ones(1, 2), torch.tensor([0]), reduction="mean"), "'token', 'sequence'"),
        (lambda: vanilla_loss(torch.ones(2, 3, 5), torch.ones(2, 4).long()), r"\(2, 3, 5\), labels \(2, 4\)"),
        (lambda: vanilla_loss(torch.tensor(1.0), torch.tensor(1)), r"logits \(\), labels \(\)"),
        (lambda: vanilla_loss(torch.ones(1, 2).long(), torch.tensor([0])), "logits must be floating.*int64"),
        (lambda: vanilla_loss(torch.ones(1, 2), torch.tensor([0.0])), "labels must be integers; got torch.float32"),
        (lambda: vanilla_loss(torch.ones(1, 2), torch.tensor([True])), "labels must be integers; got torch.bool"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_label_outside_the_vocabulary_is_an_error():
    with pytest.raises((IndexError, RuntimeError)):
        vanilla_loss(torch.zeros(1, 4), torch.tensor([4]))
