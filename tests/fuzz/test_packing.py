"""Random answers behind random images: the packed form computes what the plain form computes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitask.training.vitask_data import NO_NEGATIVE

from ..training.tiny_task import ANSWERS, make_data
from ..vlm.tiny import make_vlm
from .examples import examples

BRANCHES = ("vanilla", "exemplar", "negative", "labels")
FEW_TOKENS = st.integers(20, 23)
"""So few that answers often begin alike."""


@pytest.fixture(scope="module", params=["after_image", "before_assistant"])
def vlm(request):
    return make_vlm(request.param, 2).double()


@pytest.mark.slow
@examples(8, share=0.05)
@given(
    responses=st.lists(st.lists(FEW_TOKENS, min_size=1, max_size=6), min_size=3, max_size=3),
    samples=st.lists(st.integers(0, len(ANSWERS) - 1), min_size=1, max_size=4, unique=True),
    negatives=st.lists(st.integers(NO_NEGATIVE, len(ANSWERS) - 1), min_size=4, max_size=4),
    limit=st.sampled_from([None, 1, 2]),
)
def test_packed_is_plain(vlm, responses, samples, negatives, limit):
    keys = [(0, index, negative) for index, negative in zip(samples, negatives, strict=False)]
    found = {}
    for packed in (True, False):
        data = make_data(BRANCHES, vlm.placement, packed=packed, limit=limit)
        data.responses = responses
        batch = data.collate([data[key] for key in keys])
        batch = {name: _wide(value) for name, value in batch.items()}
        with torch.no_grad():
            found[packed] = vlm(batch)
    assert found[True].keys() == found[False].keys() == set(BRANCHES)
    real = batch["labels"] != -100
    for name in BRANCHES[:3]:
        torch.testing.assert_close(found[True][name][real], found[False][name][real], rtol=0, atol=1e-9)
    plain = found[False]["labels"]
    assert torch.equal(plain.isfinite(), found[True]["labels"].isfinite())
    torch.testing.assert_close(found[True]["labels"], plain, rtol=0, atol=1e-9)


def _wide(value):
    if isinstance(value, dict):
        return {name: _wide(each) for name, each in value.items()}
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
