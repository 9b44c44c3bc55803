"""One optimiser step in other portions, other forms and on other ranks: the same weights, the same log."""

from __future__ import annotations

import pytest

from vitask.training.sampling import rank_share
from vitask.training.shares import Shares
from vitask.training.vitask_data import NO_NEGATIVE

from .toy import STAGES, build, difference, moved, trained
from .worker import CASES, RESUMED

WEIGHTS, LOGGED = 1e-6, 5e-5
"""float32: what the order of summation may change of a weight, and of a logged loss or norm."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """`reference(accelerator, stage, **changes)`: a training in one process, done once for all tests."""
    kept = {}

    def get(accelerator, **changes):
        key = str(sorted(changes.items()))
        if key not in kept:
            kept[key] = trained(tmp_path_factory.mktemp("one"), accelerator, **changes)
        return kept[key]

    return get


def compare(equal, name, one, other, weights=WEIGHTS, logged=LOGGED):
    found = difference(one, other)
    equal(f"{name}: weights", found[0], weights)
    equal(f"{name}: log", found[1], logged)


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


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_two_ranks(accelerator, reference, two_ranks, equal, case):
    changes = {name: value for name, value in CASES[case].items() if name not in ("sharded", "micro_batch_size")}
    compare(equal, f"two ranks: {case}", two_ranks.cases[case], reference(accelerator, **changes))


def test_a_rank_without_valid_negative_is_among_the_cases():
    """In the steps of the toy, one rank's samples have no negative while the other's do."""
    _, data = build("crt", negatives="one-sided")
    lonely = []
    for epoch in range(2):
        steps = Shares([0] * 10, [0] * 10).steps(7, seed=0, epoch=epoch)
        for step in data.keys(epoch, steps):
            shares = [[key[2] != NO_NEGATIVE for key in rank_share(step, rank, 2)] for rank in range(2)]
            lonely.append(any(map(any, shares)) and not all(map(any, shares)))
    assert any(lonely)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["sharded again", "whole again"])
def test_a_sharded_run_resumes_on_any_number_of_ranks(accelerator, reference, two_ranks, equal, name):
    wanted = reference(accelerator, stage="crt")
    alone = {key: value for key, value in RESUMED.items() if key != "sharded"}
    found = two_ranks.cases.get(name) or trained(two_ranks.folder / name, accelerator, **alone)
    compare(equal, f"interrupted while sharded, {name}", found, wanted)
