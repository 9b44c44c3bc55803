from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from vitask.data import BatchNegatives, DatasetNegatives

LABEL_SETS = [(), (0,), (1,), (0, 1), (2,)]

samples = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=25)
seeds = st.integers(0, 2**31)


def candidates(row, answers, instructions, disjoint):
    """All valid negatives of a row, straight from the definition."""
    return {
        other
        for other in range(len(answers))
        if instructions[other] == instructions[row]
        and answers[other] != answers[row]
        and not (disjoint and set(LABEL_SETS[answers[other]]) & set(LABEL_SETS[answers[row]]))
    }


def both(answers, instructions, seed, disjoint):
    label_sets = LABEL_SETS if disjoint else None
    return BatchNegatives(seed, label_sets), DatasetNegatives(answers, instructions, seed, label_sets)


@given(samples=samples, seed=seeds, epoch=st.integers(0, 50), disjoint=st.booleans())
@settings(deadline=None)
def test_every_negative_is_a_candidate_and_minus_one_means_there_is_none(samples, seed, epoch, disjoint):
    answers, instructions = map(list, zip(*samples, strict=True))
    for negatives in both(answers, instructions, seed, disjoint):
        drawn = negatives.draw(epoch, range(len(answers)), answers, instructions)
        for row, other in enumerate(drawn):
            valid = candidates(row, answers, instructions, disjoint)
            assert other in valid if valid else other == -1


@given(samples=samples, seed=seeds, disjoint=st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_draw_depends_only_on_seed_epoch_and_index(samples, seed, disjoint):
    answers, instructions = map(list, zip(*samples, strict=True))
    _, negatives = both(answers, instructions, seed, disjoint)
    together = negatives.draw(3, range(len(answers)), answers, instructions)
    _, resumed = both(answers, instructions, seed, disjoint)
    alone = [resumed.draw(3, [i], [answers[i]], [instructions[i]])[0] for i in reversed(range(len(answers)))]
    assert together == alone[::-1]


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("kind", [0, 1])
def test_uniform_over_the_candidates(kind, disjoint):
    answers = [1, 1, 0, 2, 2, 2, 3, 3, 4, 1]
    instructions = [0] * 9 + [1]
    negatives = both(answers, instructions, 7, disjoint)[kind]
    draws = [negatives.draw(epoch, range(10), answers, instructions) for epoch in range(600)]
    for row in (0, 3, 8):
        counts = Counter(drawn[row] for drawn in draws)
        valid = candidates(row, answers, instructions, disjoint)
        assert set(counts) == valid
        assert chisquare([counts[other] for other in valid]).pvalue > 1e-3


@pytest.mark.parametrize("kind", [0, 1])
def test_epochs_seeds_and_indices_draw_differently(kind):
    answers, instructions = [0] * 20 + [1] * 20, [0] * 40
    first = both(answers, instructions, 0, False)[kind]
    other_seed = both(answers, instructions, 1, False)[kind]
    drawn = first.draw(0, range(40), answers, instructions)
    assert drawn == first.draw(0, range(40), answers, instructions)
    assert drawn != first.draw(1, range(40), answers, instructions)
    assert drawn != other_seed.draw(0, range(40), answers, instructions)
    assert len(set(drawn)) > 10


def test_several_samples_may_share_a_negative():
    drawn = BatchNegatives(0).draw(0, [5, 6, 7], [1, 1, 2], [0, 0, 0])
    assert drawn[:2] == [2, 2]
    assert drawn[2] in (0, 1)


def test_a_group_draws_among_its_own_rows():
    answers = [0, 1, 0, 1, 2, 2, 1]
    for epoch in range(20):
        drawn = BatchNegatives(seed=0, group=3).draw(epoch, range(7), answers, [0] * 7)
        assert all(row // 3 == other // 3 for row, other in enumerate(drawn) if other != -1)
        assert drawn[6] == -1
        assert drawn[:6] == BatchNegatives(seed=0).draw(epoch, range(3), answers[:3], [0] * 3) + [
            other + 3 for other in BatchNegatives(seed=0).draw(epoch, range(3, 6), answers[3:6], [0] * 3)
        ]
