import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitask.data.splits import carve_val, grouped_split, split_of, stratified_split
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


@given(groups=st.integers(12, 40), size=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_groups_are_never_divided_and_nothing_is_lost(groups, size, seed):
    rng = np.random.default_rng(seed)
    members = np.repeat(np.arange(groups), rng.integers(1, size + 1, groups)).astype(str)
    classes = rng.integers(0, 2, groups)[members.astype(int)]
    parts = grouped_split(classes, members, (0.6, 0.2, 0.2), seed=seed)
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(members)))
    held = [set(members[rows]) for rows in parts.values()]
    assert sum(map(len, held)) == groups
    assert parts == grouped_split(classes, members, (0.6, 0.2, 0.2), seed=seed)


def test_groups_come_near_to_fractions_and_classes():
    rng = np.random.default_rng(0)
    members = np.repeat(np.arange(300), 3)
    classes = np.repeat(rng.choice(3, 300, p=[0.7, 0.2, 0.1]), 3)
    parts = grouped_split(classes, members.astype(str), (0.7, 0.1, 0.2))
    shares = [len(rows) / 900 for rows in parts.values()]
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.02)
    for rows in parts.values():
        mix = np.bincount(classes[rows], minlength=3) / len(rows)
        assert np.allclose(mix, np.bincount(classes) / 900, atol=0.03)


def test_too_few_groups():
    with pytest.raises(VitaskError, match="2 groups cannot fill three splits"):
        grouped_split([0, 1, 0, 1], list("aabb"), (0.6, 0.2, 0.2))


def test_val_is_carved_out_of_train_with_its_share_of_both():
    classes = [0] * 20 + [1] * 10 + [0, 1]
    train, val = carve_val(range(30), classes, (0.6, 0.2, 0.2), names="ab")
    assert (len(train), len(val)) == (23, 7)
    assert sorted([*train, *val]) == list(range(30))
    assert np.bincount(np.array(classes)[val]).tolist() == [5, 2]
    groups = [str(i // 5) for i in range(32)]
    train, val = carve_val(range(30), classes, (0.6, 0.2, 0.2), names="ab", groups=groups)
    assert not {groups[row] for row in train} & {groups[row] for row in val}
    assert sorted([*train, *val]) == list(range(30))


def test_a_small_class_goes_to_train_when_that_is_allowed():
    parts = stratified_split([0] * 10 + [1] * 2, (0.6, 0.2, 0.2), names=["common", "rare"], strict=False)
    assert {10, 11} <= set(parts["train"])


@pytest.mark.parametrize(
    ("name", "own", "split"),
    [
        ("Train", {}, "train"),
        ("validation", {}, "val"),
        ("dev", {}, "val"),
        ("fold", {}, None),
        ("fold", {"test": "fold"}, "test"),
        ("validation", {"test": "validation"}, "test"),
        ("test", {"test": "validation"}, None),
        ("3", {"val": [2, 3]}, "val"),
        ("3", {"val": 3}, "val"),
    ],
)
def test_names_of_splits(name, own, split):
    assert split_of(name, own) == split
