import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitask.data import load_digits_task, with_imbalance, with_label_noise, with_train_fraction
from vitask.errors import UsageError, VitaskError


@pytest.fixture(scope="module")
def digits():
    return load_digits_task()


def answers(task, split="train"):
    return np.array(task.splits[split]["answer"][:])


@given(rate=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_noise_changes_exactly_the_rate_of_train_and_nothing_else(digits, rate, seed):
    noisy = with_label_noise(digits, rate, seed)
    changed = int((answers(noisy) != answers(digits)).sum())
    assert changed == round(rate * len(answers(digits)))
    assert noisy.splits["val"] is digits.splits["val"]
    assert noisy.splits["test"] is digits.splits["test"]
    assert noisy.splits["train"]["id"][:] == digits.splits["train"]["id"][:]
    assert f"({changed} of 719)" in noisy.notes["label noise"]
    assert noisy.fingerprint != digits.fingerprint
    assert noisy.fingerprint == with_label_noise(digits, rate, seed).fingerprint


def test_noise_reaches_every_other_answer_about_equally(digits):
    noisy, clean = answers(with_label_noise(digits, 0.9, 1)), answers(digits)
    shift = (noisy - clean) % 10
    counts = np.bincount(shift[shift > 0], minlength=10)[1:]
    assert counts.min() > 0.5 * counts.mean()
    assert counts.max() < 1.5 * counts.mean()


def test_noise_stays_within_the_candidates_of_a_multi_label_task(toy):
    task = toy([[0], [1], [2], [0, 1]] * 5, test=[[0, 2], [1, 2]], multi_label=True)
    assert len(task.answers) == 6
    assert answers(with_label_noise(task, 0.5, 0)).max() < task.candidates == 4


def test_seeds_differ(digits):
    for condition, amount in ((with_label_noise, 0.3), (with_imbalance, 0.1), (with_train_fraction, 0.5)):
        assert condition(digits, amount, 0).fingerprint != condition(digits, amount, 1).fingerprint


def test_imbalance_keeps_the_stated_numbers(toy):
    task = toy([0] * 100 + [1] * 100 + [2] * 100)
    tail = with_imbalance(task, 0.04, seed=3)
    assert sorted(np.bincount(answers(tail)), reverse=True) == [100, 20, 4]
    assert len(tail.splits["test"]) == 300
    counts = np.bincount(answers(tail))
    assert tail.notes["class imbalance"].endswith(f"seed 3: red {counts[0]}, green {counts[1]}, blue {counts[2]}")


def test_imbalance_keeps_at_least_one_and_at_most_what_there_is(toy):
    counts = np.bincount(answers(with_imbalance(toy([0] * 50 + [1] * 3 + [2] * 3), 0.001, seed=0)))
    assert counts.min() >= 1
    assert np.all(counts <= [50, 3, 3])


@given(fraction=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_fraction_is_stratified(digits, fraction, seed):
    part = with_train_fraction(digits, fraction, seed)
    counts, whole = np.bincount(answers(part)), np.bincount(answers(digits))
    assert np.all(np.abs(counts - fraction * whole) <= 1.5)
    ids = part.splits["train"]["id"][:]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(digits.splits["train"]["id"][:])


def test_fraction_keeps_every_class_of_a_single_label_task(toy):
    task = toy([0] * 97 + [1] * 2 + [2])
    for seed in range(20):
        assert set(answers(with_train_fraction(task, 0.05, seed))) == {0, 1, 2}


def test_fraction_that_loses_a_label_of_a_multi_label_task(toy):
    task = toy([[0]] * 500 + [[1]] * 500 + [[2]], multi_label=True)
    with pytest.raises(VitaskError, match="split 'train' has no image of 'blue'"):
        with_train_fraction(task, 0.01, 0)


def test_conditions_stack_and_their_notes_add_up(digits):
    task = with_label_noise(with_train_fraction(digits, 0.5, 0), 0.2, 0)
    assert set(task.notes) == {"training fraction", "label noise"}
    assert len(task.splits["train"]) == 360
    image = task.splits["train"][0]["image"]
    original = dict(zip(digits.splits["train"]["id"][:], range(719), strict=True))[task.splits["train"][0]["id"]]
    assert image.tobytes() == digits.splits["train"][original]["image"].tobytes()


def test_a_condition_that_changes_nothing_is_the_task_itself(digits):
    assert with_label_noise(digits, 0, 0) is digits
    assert with_imbalance(digits, 1, 0) is digits
    assert with_train_fraction(digits, 1, 0) is digits


@pytest.mark.parametrize(
    ("condition", "amount", "message"),
    [
        (with_label_noise, 1, r"label noise rate must be in \[0, 1\), got 1"),
        (with_label_noise, -0.1, r"label noise rate must be in \[0, 1\)"),
        (with_imbalance, 0, r"imbalance ratio must be in \(0, 1\]"),
        (with_train_fraction, 1.5, r"training fraction must be in \(0, 1\]"),
    ],
)
def test_amounts_outside_their_range(digits, condition, amount, message):
    with pytest.raises(UsageError, match=message):
        condition(digits, amount, 0)


def test_imbalance_of_a_multi_label_task(toy):
    with pytest.raises(UsageError, match="toy is multi-label"):
        with_imbalance(toy([[0], [1], [2]], multi_label=True), 0.5, 0)
