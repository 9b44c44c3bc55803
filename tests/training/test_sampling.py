from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitask.training.sampling import random_state, rank_share, restore_random_state, seeded

sizes = st.integers(1, 200)
small = st.integers(0, 5)


@given(st.integers(1, 40), st.integers(1, 8))
def test_ranks_share_a_step_without_overlap_or_loss(size, ranks):
    step = list(range(size))
    shares = [rank_share(step, rank, ranks) for rank in range(ranks)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if size < ranks:
        assert shares == [step] * ranks
    else:
        assert [i for share in shares for i in share] == step


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_seeded_block_is_a_function_of_its_key():
    seen = {}
    for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)):
        with seeded(*key):
            values = draw()
        assert seen.setdefault(key, values) == values
    assert len({value for values in seen.values() for value in values}) == 12


def test_seeded_block_leaves_the_global_generators_alone():
    def set_all():
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)

    set_all()
    expected = [draw(), draw()]
    set_all()
    first = draw()
    with suppress(RuntimeError), seeded(1):
        draw()
        raise RuntimeError
    assert [first, draw()] == expected


def test_random_state_goes_back():
    state = random_state()
    value = torch.rand(3)
    restore_random_state(state)
    assert torch.equal(torch.rand(3), value)


def test_shares_are_consecutive_so_that_groups_stay_together():
    assert [rank_share(list(range(9)), rank, 4) for rank in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7, 8]]
