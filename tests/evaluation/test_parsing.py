from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitask.evaluation.parsing import AnswerParser, folded, normalised

LABELS = [
    "normal",
    "pneumonia",
    "benign",
    "normal, benign",
    "type 2",
    "immature granulocytes(myelocytes, metamyelocytes)",
    "Straße",
    "0",
    "10",
]
BLOOD = ["A+", "A-", "AB+"]
CHAIN = ["lung opacity", "normal lung", "lung"]

CASES = [
    ("normal", "normal"),
    ("  NORMAL \n", "normal"),
    ("Pneumonia.", "pneumonia"),
    ('"pneumonia"!', "pneumonia"),
    ("**Pneumonia**", "pneumonia"),
    ("The answer is pneumonia, I think", "pneumonia"),
    ("normal,   benign", "normal, benign"),
    ("It is normal, benign.", "normal, benign"),
    ("normal and benign", None),
    ("normal, benign, or pneumonia", None),
    ("abnormal", None),
    ("normally", None),
    ("type 2", "type 2"),
    ("type 22", None),
    ("type-2", None),
    ("immature granulocytes(myelocytes, metamyelocytes)", "immature granulocytes(myelocytes, metamyelocytes)"),
    ("immature granulocytes(myelocytes, metamyelocytes).", "immature granulocytes(myelocytes, metamyelocytes)"),
    ("immature granulocytes", None),
    ("(normal)", "normal"),
    ("STRASSE", "Straße"),
    ("ｎｏｒｍａｌ", "normal"),
    ("10", "10"),
    ("grade 0", "0"),
    ("100", None),
    ("normal normal", "normal"),
    ("", None),
    (" .,! ", None),
    ("a cat", None),
]


@pytest.mark.parametrize(("text", "label"), CASES)
def test_answers_are_read_by_the_two_rules(text, label):
    found = AnswerParser(LABELS)(text)
    assert (None if found is None else LABELS[found]) == label


@pytest.mark.parametrize(
    ("text", "label"), [("A+", "A+"), ("a-", "A-"), ("it is A-.", "A-"), ("AB+.", "AB+"), ("A", None), ("type A", None)]
)
def test_labels_that_differ_by_punctuation_stay_apart(text, label):
    found = AnswerParser(BLOOD)(text)
    assert (None if found is None else BLOOD[found]) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("normal lung opacity", None),
        ("a normal lung", "normal lung"),
        ("lung opacity", "lung opacity"),
        ("lung", "lung"),
    ],
)
def test_labels_that_overlap_in_the_text_are_two_labels(text, label):
    found = AnswerParser(CHAIN)(text)
    assert (None if found is None else CHAIN[found]) == label


texts = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6, unique_by=folded)
words = st.lists(st.text("ab ,.(-)é", min_size=1).filter(str.strip), min_size=1, max_size=6, unique_by=folded)


@given(st.one_of(texts, words))
def test_every_label_reads_as_itself(labels):
    parser = AnswerParser(labels)
    assert [parser(label) for label in labels] == list(range(len(labels)))


@given(words, st.text("ab ,.(-)é"))
def test_whatever_is_read_occurs_in_the_text(labels, text):
    found = AnswerParser(labels)(text)
    assert found is None or normalised(labels[found]) in folded(text)


def test_synonyms_mean_their_answer_and_an_answers_own_text_goes_first():
    parser = AnswerParser(["nevus", "melanoma", "mole"], [["mole", "naevus"], ["malignant melanoma"], []])
    assert [parser(text) for text in ("Naevus.", "mole", "it is malignant melanoma", "a naevus, a nevus")] == [
        0,
        2,
        1,
        0,
    ]
    assert parser("a naevus or a melanoma") is None
