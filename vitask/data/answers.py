"""The closed set of answers: one a label, or, with several labels an image, one a label set that occurs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitask.data.labels import Label
from vitask.errors import VitaskError


@dataclass(frozen=True)
class Answer:
    """One response that the model may give.

    Attributes:
        text: The response, e.g. ``"melanoma"`` or, with several labels, ``"effusion, mass"``.
        labels: The labels it stands for, as ascending indices into `TaskData.labels`; empty for "no finding".
        synonyms: Other texts that mean the same, for reading generated answers.
    """

    text: str
    labels: tuple[int, ...]
    synonyms: tuple[str, ...] = ()


def form_answers(
    labels: Sequence[Label],
    sets: Mapping[str, Sequence[tuple[int, ...]]],
    multi_label: bool,
    separator: str,
    no_finding: str,
    origin: str,
) -> tuple[tuple[Answer, ...], int]:
    """Form the closed set of answers of a task, and say how many of them scoring may choose from.

    Args:
        labels: The labels in canonical order.
        sets: The label sets of each split's rows.
        multi_label: Whether a row may have any number of labels.
        separator: What joins the texts of several labels.
        no_finding: The answer for a row without labels.
        origin: Where the labels came from; errors begin with it.

    Raises:
        VitaskError: Two label sets give the same text, a synonym means two labels, or a label holds the separator.

    Example:
        >>> form_answers([Label("0", "red"), Label("1", "blue")], {}, False, ", ", "none", "dots")
        ((Answer(text='red', labels=(0,), synonyms=()), Answer(text='blue', labels=(1,), synonyms=())), 2)
    """
    _check_synonyms(labels, origin)
    if not multi_label:
        return tuple(Answer(label.text, (i,), label.synonyms) for i, label in enumerate(labels)), len(labels)
    seen = sorted(set(sets["train"] or sets["test"]))
    unseen = sorted({*sets["val"], *sets["test"]} - set(seen))
    answers = tuple(
        Answer(
            separator.join(labels[i].text for i in found) or no_finding,
            found,
            labels[found[0]].synonyms if len(found) == 1 else (),
        )
        for found in seen + unseen
    )
    _check_answers(answers, [label.text for label in labels], origin)
    for label in labels:
        if separator.strip() and separator.strip() in label.text:
            raise VitaskError(
                f"{origin}: label '{label.text}' holds the separator '{separator}', so that answers of several labels "
                "cannot be taken apart; set data.separator='; ', say, or give the label another text"
            )
    return answers, len(seen)


def _check_answers(answers: Sequence[Answer], labels: Sequence[str], origin: str) -> None:
    first: dict[str, Answer] = {}
    for answer in answers:
        other = first.setdefault(answer.text.casefold(), answer)
        if other is not answer:
            sets = " and ".join(str([labels[i] for i in each.labels]) for each in (other, answer))
            raise VitaskError(f"{origin}: the label sets {sets} give the same answer '{answer.text}'; rename a label")


def _check_synonyms(labels: Sequence[Label], origin: str) -> None:
    meant = {label.text.casefold(): label for label in labels}
    for label in labels:
        for word in label.synonyms:
            other = meant.setdefault(word.casefold(), label)
            if other is not label:
                raise VitaskError(f"{origin}: '{word}' is a synonym of '{label.text}' and means '{other.text}' too")
