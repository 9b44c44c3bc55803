"""How a run answers with labels, in the words of its model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Choice(NamedTuple):
    """A way to answer; its words leave `{labels}` and `{answers}` open, their numbers, and the data set's `{name}`.

    Attributes:
        able: what an image is given.
        listed: stands before the labels.
        limits: sentences on answers and probabilities; they leave nothing open.
    """

    able: str
    listed: str
    limits: tuple[str, ...]


ONE = Choice(
    "one of {labels} labels of {name}",
    "Labels",
    (
        "It always gives one of its labels, also to an image that none of them fits.",
        "Its probabilities compare the labels with each other; nothing makes sure that they are well calibrated.",
    ),
)
SETS = Choice(
    "one of {answers} sets of the {labels} labels of {name}",
    "Labels (an image is given one of {answers} sets of them, those that occur in training; `labels.json` lists them)",
    (
        "It always gives one of the sets of labels that occur in training, also to an image that none of them fits.",
        "Its answer is the likeliest set. The probability of a label is that of all sets that hold it, so the answer "
        "need not be the likeliest labels; nothing makes sure that probabilities are well calibrated.",
    ),
)
EACH = Choice(
    "any number of {labels} labels of {name}",
    "Labels (any number of them an image)",
    (
        "It gives every label whose probability is above one half, also to an image that none of them fits.",
        "Each label has a probability of its own; nothing makes sure that it is well calibrated.",
    ),
)
HEAD = "head"
"""The stage whose runs have a linear head, and no answers."""


def choice_of(labels: Mapping[str, Any], stage: str) -> Choice:
    """Return how a run of a stage answers on a data set.

    Args:
        labels: an entry of the `sets` of `labels.json`.
        stage: its name.

    Example:
        >>> choice_of({"multi_label": False}, "crt").listed
        'Labels'
    """
    if not labels["multi_label"]:
        return ONE
    return EACH if stage == HEAD else SETS
