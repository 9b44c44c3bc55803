"""The trie of a closed set and the parser of free answers, on random answers, against definitions in plain loops."""

from __future__ import annotations

import re

import torch
from hypothesis import given
from hypothesis import strategies as st

from vitask.evaluation.parsing import AnswerParser, folded, normalised
from vitask.losses import branching_mask

from .examples import examples

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple)
closed_sets = st.lists(tokens, min_size=1, max_size=6, unique=True)
words = st.lists(st.sampled_from(["a", "b", "ab", "a-b", "c.", "(a)", "Σ", "ﬁ"]), min_size=1, max_size=3).map(" ".join)
answer_sets = st.lists(words, min_size=1, max_size=5, unique_by=lambda text: normalised(text))


@examples(50)
@given(closed_sets)
def test_a_position_branches_where_another_label_goes_elsewhere(labels):
    longest = max(map(len, labels))
    rows = torch.tensor([[*label, *[-100] * (longest - len(label))] for label in labels])
    wanted = [
        [
            t < len(label) and any(o[:t] == label[:t] and len(o) > t and o[t] != label[t] for o in labels)
            for t in range(longest)
        ]
        for label in labels
    ]
    assert branching_mask(rows, labels).tolist() == wanted


@examples(100)
@given(answer_sets, st.sampled_from(["{}", " {} ", "{}.", "{}!", "\n{}"]))
def test_an_answer_is_read_as_itself(answers, form):
    parser = AnswerParser(answers)
    for index, answer in enumerate(answers):
        assert parser(form.format(answer)) == index
        assert parser(answer.upper()) == index


@examples(200)
@given(answer_sets, st.lists(words, max_size=4).map(" or ".join))
def test_a_longer_text_is_read_by_the_second_rule(answers, text):
    parser = AnswerParser(answers)
    if {folded(text), normalised(text)} & {normalised(answer) for answer in answers}:
        return
    assert parser(text) == by_loops(answers, text)


def by_loops(answers, text):
    """Which answer alone occurs as whole words: from left to right, at each place the longest, none inside another."""
    text, forms = folded(text), {normalised(answer): index for index, answer in enumerate(answers)}
    found, reach = set(), 0
    for start in range(len(text)):
        if start and re.match(r"\w", text[start - 1]):
            continue
        fits = [
            form
            for form in forms
            if text.startswith(form, start) and not re.match(r"\w", text[start + len(form) : start + len(form) + 1])
        ]
        if fits and start + len(max(fits, key=len)) > reach:
            reach = start + len(max(fits, key=len))
            found.add(forms[max(fits, key=len)])
    return found.pop() if len(found) == 1 else None


@examples(100)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5), st.text(max_size=40))
def test_no_text_is_too_strange_to_be_read(answers, text):
    found = AnswerParser(answers)(text)
    assert found is None or 0 <= found < len(answers)
