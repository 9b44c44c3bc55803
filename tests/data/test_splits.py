import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitask.data.splits import stratified_split
from vitask.errors import UsageError, VitaskError


@given(sizes=st.lists(st.integers(5, 40), min_size=2, max_size=6), seed=st.integers(0, 1000))
def test_disjoint_complete_stratified_and_deterministic(sizes, seed):
    classes = np.random.default_rng(seed).permutation(np.repeat(range(len(sizes)), sizes))
    names = [str(k) for k in range(len(sizes))]
    parts = stratified_split(classes, (0.6, 0.2, 0.2), names=names, seed=seed)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(classes)))
    for split, fraction in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        counts = np.bincount(classes[parts[split]], minlength=len(sizes))
        assert np.all(np.abs(counts - fraction * np.array(sizes)) <= 1)
        assert counts.min() >= 1
    assert parts == stratified_split(classes, (0.6, 0.2, 0.2), names=names, seed=seed)


def test_class_too_small_to_split():
    with pytest.raises(VitaskError, match="class 'rare' has 2 images"):
        stratified_split([0] * 10 + [1] * 2, (0.6, 0.2, 0.2), names=["common", "rare"])


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0)])
def test_bad_fractions(fractions):
    with pytest.raises(UsageError, match="must be positive and sum to 1"):
        stratified_split([0] * 10, fractions, names=["a"])
