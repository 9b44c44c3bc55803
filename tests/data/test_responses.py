"""Responses in words: when they are the same, how much they share, and whose negatives they make their images."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from vitask.data import BatchNegatives, InstructionNegatives, NegativeRule, comparable, token_f1

WORDS = ("a", "red", "blue", "circle", "square", "two")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A red circle.", "a red circle"),
        ("  a   red\tcircle ", "a red circle"),
        ("Left-sided", "left sided"),
        ("STRASSE", "straße"),
        ("yes!", "Yes"),
        ("(b)", "B"),
    ],
)
def test_case_spaces_and_punctuation_do_not_tell_responses_apart(one, other):
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("one", "other"), [("3.5", "35"), ("1,000", "1000"), ("?", "!"), ("naïve", "naive"), ("a", "b"), ("कि", "क")]
)
def test_what_means_something_does(one, other):
    assert comparable(one) != comparable(other)


def by_loops(given: str, right: str) -> float:
    """Precision and recall word by word, every word of the right text used once."""
    said, left = given.split(), right.split()
    hits = 0
    for word in said:
        if word in left:
            left.remove(word)
            hits += 1
    if not hits:
        return 0.0
    precision, recall = hits / len(said), hits / len(right.split())
    return 2 * precision * recall / (precision + recall)


def drawn(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))


def test_token_f1_is_that_of_a_count_by_hand():
    rng = random.Random(0)
    for _ in range(200):
        one, other = drawn(rng), drawn(rng)
        assert token_f1(one, other) == pytest.approx(by_loops(one, other))
        assert token_f1(one, other) == pytest.approx(token_f1(other, one))
    assert token_f1("Red.", "red") == 1
    assert token_f1("", "red") == 0


@pytest.mark.parametrize("most", [None, 0.3, 0.8])
def test_the_rule_is_that_of_a_comparison_pair_by_pair(most):
    rng = random.Random(1)
    responses = [drawn(rng) for _ in range(40)]
    pictures = [f"{rng.randrange(15)}.png" for _ in responses]
    rule = NegativeRule(responses, pictures, most)
    for sample in range(40):
        expected = [
            pictures[other] != pictures[sample]
            and comparable(responses[other]) != comparable(responses[sample])
            and (most is None or by_loops(responses[other], responses[sample]) < most)
            for other in range(40)
        ]
        assert rule(sample, range(40)).tolist() == expected


def material(size: int = 60) -> tuple[list[str], list[str], list[int]]:
    rng = random.Random(2)
    return (
        [rng.choice(["red", "Red.", "blue", "green"]) for _ in range(size)],
        [f"{rng.randrange(20)}.png" for _ in range(size)],
        [rng.randrange(3) for _ in range(size)],
    )


@pytest.mark.parametrize("kind", ["batch", "dataset"])
def test_a_negative_is_another_image_with_the_same_instruction_and_another_response(kind):
    responses, pictures, asked = material()
    rule = NegativeRule(responses, pictures)
    negatives = BatchNegatives(0, rule=rule) if kind == "batch" else InstructionNegatives(rule, asked, 0)
    rows = random.Random(3).sample(range(60), 30)
    found = negatives.draw(4, rows, [0] * 30, [asked[row] for row in rows])
    assert -1 not in found
    for row, other in zip(rows, found, strict=True):
        other = rows[other] if kind == "batch" else other
        assert asked[other] == asked[row]
        assert pictures[other] != pictures[row]
        assert comparable(responses[other]) != comparable(responses[row])
    assert found == negatives.draw(4, rows, [0] * 30, [asked[row] for row in rows])
    assert found != negatives.draw(5, rows, [0] * 30, [asked[row] for row in rows])


def test_every_candidate_is_as_likely_as_every_other_common_or_rare():
    size = 200
    responses = ["red"] * (size - 4) + ["blue"] * 4  # for a red one the four blue ones are rarely met by chance
    rule = NegativeRule(responses, [str(row) for row in range(size)])
    negatives = InstructionNegatives(rule, [0] * size, seed=0)
    counts = Counter(negatives.draw(epoch, [0], [0], [0])[0] for epoch in range(800))
    assert set(counts) == set(range(size - 4, size))
    assert max(abs(count - 200) for count in counts.values()) < 5 * np.sqrt(200 * 0.75)


def test_a_sample_without_a_negative_has_none():
    rule = NegativeRule(["red", "blue", "RED", "red"], ["0.png", "0.png", "1.png", "2.png"])
    found = InstructionNegatives(rule, [0, 0, 0, 1], 0).draw(0, [0, 1, 2, 3], [0] * 4, [0, 0, 0, 1])
    assert found[0] == -1, "the only other response is about its own image"
    assert found[1] == 2
    assert found[2] == 1
    assert found[3] == -1, "nobody else is asked that"
