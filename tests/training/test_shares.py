"""Which samples an epoch holds, and how they fall into steps."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitask.training.shares import Shares

seeds = st.integers(0, 5)
sizes = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=3)
powers = st.sampled_from([0.0, 0.5, 1.0])


def make(counts, **options) -> Shares:
    """Sets of classes of so many samples each."""
    sets = [number for number, classes in enumerate(counts) for count in classes for _ in range(count)]
    flat = [count for classes in counts for count in classes]
    return Shares(sets, [number for number, count in enumerate(flat) for _ in range(count)], **options)


@given(sizes, st.integers(1, 50), seeds, seeds)
def test_by_default_every_sample_comes_exactly_once_an_epoch(counts, batch_size, seed, epoch):
    shares = make(counts)
    steps = shares.steps(batch_size, seed=seed, epoch=epoch)
    assert sorted(chain(*steps)) == list(range(len(shares.sets)))
    assert all(len(step) == batch_size for step in steps[:-1])
    assert 0 < len(steps[-1]) <= batch_size
    assert len(steps) == shares.steps_per_epoch(batch_size)


@given(sizes, st.integers(1, 50), st.integers(1, 50), powers, powers, seeds)
def test_order_does_not_depend_on_the_batch_size(counts, one, other, set_power, class_power, seed):
    shares = make(counts, set_power=set_power, class_power=class_power)
    first, second = (shares.steps(size, seed=seed, epoch=1) for size in (one, other))
    assert list(chain(*first)) == list(chain(*second))


def test_order_depends_on_seed_and_epoch():
    shares = make([[30]])
    orders = {tuple(shares.steps(30, seed=seed, epoch=epoch)[0]) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@given(sizes, powers, powers, seeds)
def test_shares_follow_the_powers_and_an_epoch_keeps_its_length(counts, set_power, class_power, seed):
    shares = make(counts, set_power=set_power, class_power=class_power)
    order = list(chain(*shares.steps(8, seed=seed, epoch=0)))
    assert len(order) == len(shares.sets)
    total = sum(sum(classes) ** set_power for classes in counts)
    drawn, flat = Counter(np.asarray(shares.classes)[order].tolist()), 0
    for classes in counts:
        own = sum(classes) ** set_power / total
        for count in classes:
            wanted = len(order) * own * count**class_power / sum(each**class_power for each in classes)
            assert abs(drawn[flat] - wanted) <= 1 + 1e-9
            flat += 1


@given(sizes, powers, seeds)
def test_images_of_a_class_come_equally_often_to_within_one(counts, power, seed):
    shares = make(counts, class_power=power, set_power=power)
    seen = Counter(chain(*shares.steps(8, seed=seed, epoch=0)))
    for number in set(shares.classes):
        times = [seen[i] for i, each in enumerate(shares.classes) if each == number]
        assert max(times) - min(times) <= 1


@given(sizes, st.integers(1, 12), powers, seeds)
def test_steps_keep_sets_apart_when_asked(counts, batch_size, power, seed):
    shares = make(counts, set_power=power, one_set_a_step=True)
    steps = shares.steps(batch_size, seed=seed, epoch=0)
    assert all(len({shares.sets[i] for i in step}) == 1 for step in steps)
    assert len(steps) == shares.steps_per_epoch(batch_size)
    assert sum(map(len, steps)) == len(shares.sets)


@pytest.mark.parametrize(("power", "expected"), [(1.0, (90, 10)), (0.5, (75, 25)), (0.0, (50, 50))])
def test_balanced_and_square_root_shares_by_hand(power, expected):
    order = list(chain(*make([[90, 10]], class_power=power).steps(10, seed=0, epoch=0)))
    assert (sum(i < 90 for i in order), sum(i >= 90 for i in order)) == expected
