"""Ranking of images: probabilities against single forwards, figures against loops over pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitask.evaluation.ranking import rank_images, ranking_metrics
from vitask.evaluation.scoring import encode
from vitask.evaluation.teacher_forcing import response_tokens

from ..vlm.tiny import make_vlm, picture, tiny_prompter

ANSWERS = ("one", "two, three", "one", "a longer answer", "two, three")
NEGATIVES = (1, 0, 3, 0, -1)


def prompts():
    return [tiny_prompter().prompt(picture(i), "Which is it?") for i in range(len(ANSWERS))]


def ranked(vlm, batch_size: int) -> dict[tuple[int, int], float]:
    own = [tiny_prompter().response(text) for text in ANSWERS]
    found = {}
    for batch in rank_images(vlm, tiny_prompter(), prompts(), own, NEGATIVES, batch_size=batch_size):
        assert not found.keys() & batch.keys()
        found |= batch
    return found


def alone(vlm, sample: int, image: int) -> float:
    """The mean over tokens of p, from a pass that holds nothing else."""
    members = [prompts()[image]]
    response = tiny_prompter().response(ANSWERS[sample])
    ((log_p,),) = response_tokens(vlm, tiny_prompter(), members, [[response]], encode(vlm, tiny_prompter(), members))
    return sum(torch.tensor(value).exp().item() for value in log_p.tolist()) / len(response)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_each_response_is_read_behind_its_own_image_and_behind_its_negative(batch_size):
    vlm = make_vlm("after_image", 2).train()
    found = ranked(vlm, batch_size)
    assert not vlm.training
    expected = [(i, i) for i in range(5)] + [(0, 1), (1, 0), (2, 3), (3, 0)]
    assert sorted(found) == sorted(expected)
    for sample, image in expected:
        assert found[sample, image] == pytest.approx(alone(vlm, sample, image), rel=1e-4)
    assert len({round(value, 6) for value in found.values()}) == len(found), "no two of these are alike"


def test_every_image_is_encoded_once(monkeypatch):
    vlm = make_vlm()
    seen, encode_images = [], vlm.encode_images
    monkeypatch.setattr(vlm, "encode_images", lambda i: seen.append(len(i["pixel_values"])) or encode_images(i))
    ranked(vlm, 2)
    assert sum(seen) == len(ANSWERS)


probabilities = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=50)
@given(probabilities)
def test_figures_are_those_of_loops_over_pairs(pairs):
    positive, negative = [list(each) for each in zip(*pairs, strict=True)]

    def win(own: float, other: float) -> float:
        return 1.0 if own > other else 0.5 if own == other else 0.0

    found = ranking_metrics(positive, negative)
    count = len(pairs)
    assert found["pairs"] == count
    assert found["pairs_right"] == pytest.approx(sum(win(*pair) for pair in pairs) / count)
    assert found["auc"] == pytest.approx(sum(win(p, n) for p in positive for n in negative) / count**2)
    assert found["gap"] == pytest.approx(sum(p - n for p, n in pairs) / count)
    assert found["positive_mean"] - found["negative_mean"] == pytest.approx(found["gap"])
