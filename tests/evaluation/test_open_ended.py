"""Right responses among others: likelihoods with and without exemplar, places, and intervals of means and ratios."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitask.evaluation import teacher_forcing
from vitask.evaluation.open_ended import read_responses, right_places
from vitask.evaluation.scoring import encode, score_responses
from vitask.evaluation.uncertainty import RESAMPLES, SEED, bootstrap_ratios
from vitask.vlm import packed

from ..vlm.tiny import EXEMPLAR_DIM, make_prompts, make_vlm, tiny_prompter

TEXTS = ("one", "a much longer response", "two, three")


def exemplars(count: int) -> torch.Tensor:
    return torch.randn(count, 1, EXEMPLAR_DIM, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("with_exemplar", [False, True])
@pytest.mark.parametrize("tree", [True, False])
def test_responses_of_each_prompt_have_the_likelihood_that_a_closed_set_gives_them(with_exemplar, tree, monkeypatch):
    vlm, prompts = make_vlm(), make_prompts()
    seen = exemplars(len(prompts)) if with_exemplar else None
    known = [tiny_prompter().response(text) for text in TEXTS]
    images = encode(vlm.eval(), tiny_prompter(), prompts)
    expected = score_responses(vlm, tiny_prompter(), prompts, known, images, seen)
    if not tree:
        monkeypatch.setattr(packed, "MASKED_ATTENTION", ())
        monkeypatch.setattr(teacher_forcing, "SEQUENCES", 2)
    chosen = [[0, 1], [2], [1, 0, 2]]
    batches = read_responses(
        vlm,
        tiny_prompter(),
        prompts,
        [[known[each] for each in row] for row in chosen],
        exemplars=seen,
        batch_size=2,
        limit=3,
    )
    scores, texts = ([each for batch in parts for each in batch] for parts in zip(*batches, strict=True))
    assert len(texts) == len(prompts)
    for row, (own, picked) in enumerate(zip(scores, chosen, strict=True)):
        assert own == pytest.approx(expected[row, picked].tolist(), abs=1e-3)
    if with_exemplar:
        without = score_responses(vlm, tiny_prompter(), prompts, known, images)
        assert (without - expected).abs().max() > 1e-2, "the exemplar must matter here"


def test_a_place_counts_those_that_are_likelier_and_half_of_the_equal_ones():
    scores = [[-1, -2, -3], [-2, -1, -3], [-2, -1, -2, -2], [-1]]
    assert right_places(scores) == pytest.approx([1, 2, 3, np.nan], nan_ok=True)


def test_intervals_are_those_of_samples_drawn_one_by_one():
    rng = np.random.default_rng(1)
    above, below = rng.random(30), rng.integers(1, 9, 30).astype(float)
    above[:3] = below[:3] = 0
    found = bootstrap_ratios({"ratio": (above, below), "mean": (above, np.ones(30))})
    draws = np.random.default_rng(SEED).integers(30, size=(RESAMPLES, 30))
    ratios = [sum(above[i] for i in draw) / sum(below[i] for i in draw) for draw in draws]
    means = [sum(above[i] for i in draw) / 30 for draw in draws]
    assert found["ratio"] == pytest.approx(np.quantile(ratios, [0.025, 0.975]))
    assert found["mean"] == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert np.isnan(bootstrap_ratios({"one": (np.ones(1), np.ones(1))})["one"]).all()
