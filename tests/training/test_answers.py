"""What the answers of a step begin with, counted against loops; and that a run says when they have become one."""

from __future__ import annotations

import json

import torch

from vitask.losses import IGNORE_INDEX
from vitask.training.answers import AnswerCounts

RESPONSES = [[5, 7, 1, 0], [5, 8, 0], [5, 7, 2, 0], [5, 9, 0]]


def test_counts_are_those_of_loops_at_the_first_token_that_differs():
    torch.manual_seed(0)
    labels = torch.full((12, 4), IGNORE_INDEX)
    for row in range(12):
        own = RESPONSES[row % 4]
        labels[row, : len(own)] = torch.tensor(own)
    logits = torch.randn(12, 4, 11)
    given, right = AnswerCounts(RESPONSES)(logits, labels).tolist()
    likeliest = [max(range(11), key=lambda token, row=row: logits[row, 1, token].item()) for row in range(12)]
    assert given == [likeliest.count(token) for token in (7, 8, 9)]
    assert right == [6, 3, 3]


def test_micro_batches_add_up_and_nothing_is_saved_with_the_model():
    counts = AnswerCounts(RESPONSES)
    logits, labels = torch.randn(6, 4, 11), torch.tensor([[5, 8, 0, IGNORE_INDEX]] * 6)
    parts = [counts(logits[rows], labels[rows]) for rows in (slice(0, 2), slice(2, 6))]
    assert torch.equal(sum(parts), counts(logits, labels))
    assert counts.state_dict() == {}


def test_answers_that_are_all_the_same_or_single_have_one_place():
    assert AnswerCounts([[5, 0]]).tokens.tolist() == [5]
    assert AnswerCounts([[5, 0], [5, 0]]).tokens.tolist() == [5]


def test_a_run_that_collapses_says_so(small, cli, tmp_path):
    """Images that show next to nothing get one answer, at a rate at which it does not change its mind."""
    broken = ["data.shift.contrast=0.001", "optim.lr=1e-4", "optim.epochs=40", "stage=vanilla"]
    ended = cli("train", *small, *broken, f"out={tmp_path}")
    assert ended.code == 0, ended
    (summary,) = (tmp_path / "shapes").glob("vanilla-*/summary.json")
    texts = [each["warning"] for each in json.loads(summary.read_text())["warnings"]]
    assert any("the model has collapsed to one answer" in text for text in texts), texts
    assert "answers" not in (summary.parent / "log.csv").read_text().splitlines()[0]
