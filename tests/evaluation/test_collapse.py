"""One answer for everything is said; a good model, a skewed truth and a handful of samples are not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from vitask.evaluation.collapse import collapse

LABELS = ["cat", "dog"]


def sets(*labels: int) -> np.ndarray:
    return np.eye(2, dtype=bool)[list(labels)]


def test_one_answer_for_everything_is_said():
    text = collapse(sets(*[0, 1] * 50), sets(*[1] * 99, 0), LABELS)
    assert text == "99% of 100 predictions are 'dog', which is right for 50%: the model has collapsed to one answer"


@pytest.mark.parametrize(
    ("truth", "chosen"),
    [
        ([0, 1] * 50, [0, 1] * 50),
        ([0, 1] * 50, [*[1] * 97, 0, 0, 0]),
        ([*[1] * 95, *[0] * 5], [1] * 100),
        ([0, 1] * 9, [1] * 18),
    ],
    ids=["right", "a few others", "a class that nearly all have", "a handful"],
)
def test_what_is_no_collapse(truth, chosen):
    assert collapse(sets(*truth), sets(*chosen), LABELS) is None


def test_several_labels_collapse_to_a_set():
    truth = np.array([[True, False], [True, True]] * 20)
    assert "are 'no label', which is right for 0%" in collapse(truth, np.zeros((40, 2), dtype=bool), LABELS)
    assert "are 'cat, dog'" in collapse(truth, np.ones((40, 2), dtype=bool), LABELS)
