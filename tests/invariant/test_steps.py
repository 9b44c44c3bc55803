"""One optimiser step in other portions, other forms and on other ranks: the same weights, the same log."""

from __future__ import annotations

import pytest

from .toy import LOGGED, STAGES, WEIGHTS, compare, moved, trained

PORTIONS = {"4 x 2 = 1 x 8": 2, "2 x 4 = 1 x 8": 4}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("portions", PORTIONS)
def test_accumulation(accelerator, reference, tmp_path, equal, stage, portions):
    wanted = reference(accelerator, stage=stage, batch_size=8, micro_batch_size=None)
    assert moved(stage, wanted) > 100 * WEIGHTS
    found = trained(tmp_path, accelerator, stage, batch_size=8, micro_batch_size=PORTIONS[portions])
    compare(equal, f"{stage}, {portions}", found, wanted)


WAYS = {
    "gradient checkpointing": ({"checkpointing": True}, WEIGHTS, LOGGED),
    "plain form": ({"packed": False}, WEIGHTS, LOGGED),
    "two loading processes": ({"workers": 2}, 0, 0),
    "the same seed again": ({}, 0, 0),
}


@pytest.mark.parametrize("stage", ["crt", "closed set"])
@pytest.mark.parametrize("way", WAYS)
def test_ways(accelerator, reference, tmp_path, equal, stage, way):
    changes, weights, logged = WAYS[way]
    wanted = reference(accelerator, stage=stage)
    compare(equal, f"{stage}, {way}", trained(tmp_path, accelerator, stage, **changes), wanted, weights, logged)


@pytest.mark.parametrize("packed", [True, False])
def test_a_weight_of_zero_is_a_term_that_is_not_there(accelerator, reference, tmp_path, equal, packed):
    absent = reference(accelerator, stage="ep", packed=packed)
    zero = trained(tmp_path, accelerator, "ep", packed=packed, crt=0.0)
    compare(equal, f"ep, weight 0, {'packed' if packed else 'plain'}", zero, absent, 0, 0)
