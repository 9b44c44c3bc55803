"""A classification task as every other room sees it: labels, the closed set of answers, and three splits of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vitask.errors import VitaskError

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Answer:
    """One response that the model may give.

    Attributes:
        text: The response, e.g. ``"melanoma"`` or, with several labels, ``"effusion, mass"``.
        labels: The labels it stands for, as ascending indices into `TaskData.labels`; empty for "no finding".
    """

    text: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class TaskData:
    """A classification task: what is asked, what may be answered, and the images. Build one with `make_task`.

    Attributes:
        name: Short name, e.g. ``"pneumoniamnist"``.
        modality: What the images are, e.g. ``"chest X-ray"``; it fills the instruction.
        labels: Label texts in canonical order.
        answers: The closed set of responses. Single-label: one per label, in the same order. Multi-label: the distinct
            label sets that occur, those of the training split first, each group sorted by label index.
        candidates: The first so many answers are what scoring may choose from: all of them, or, with several labels,
            those that the full training split holds.
        multi_label: Whether an image may have any number of labels.
        splits: ``"train"``, ``"val"`` and ``"test"``, each with the columns ``id`` (str), ``image`` (decodes to a PIL
            image, RGB or L) and ``answer`` (int, an index into `answers`).
        fingerprint: A sha256 in hex that changes when a pixel, an id, a label, a text or the modality changes.
        notes: Conditions to print beside any result on this task, by a short title.
    """

    name: str
    modality: str
    labels: tuple[str, ...]
    answers: tuple[Answer, ...]
    candidates: int
    multi_label: bool
    splits: Mapping[str, datasets.Dataset]
    fingerprint: str
    notes: Mapping[str, str]


def make_task(
    name: str,
    modality: str,
    labels: Sequence[str],
    splits: Mapping[str, datasets.Dataset],
    targets: Mapping[str, Sequence[Sequence[int]]],
    *,
    content: str,
    origin: str,
    multi_label: bool = False,
    separator: str = ", ",
    no_finding: str = "no finding",
    notes: Mapping[str, str] | None = None,
) -> TaskData:
    """Check a task, form its closed set of answers and fingerprint it: the one way into `TaskData`.

    Args:
        name: Short name of the task.
        modality: What the images are.
        labels: Label texts; surrounding white space is dropped.
        splits: ``train``, ``val`` and ``test``, with the columns ``id`` and ``image``.
        targets: For each split the label indices of each row; exactly one per row unless ``multi_label``.
        content: A digest of all pixels (or file bytes), which becomes part of the fingerprint.
        origin: Where the data came from (a path, a package); errors begin with it.
        multi_label: Whether a row may have any number of labels.
        separator: What joins the label texts of one multi-label answer.
        no_finding: The multi-label answer for a row without labels.
        notes: Conditions to print beside results.

    Returns:
        The task, with the column ``answer`` added to each split.

    Raises:
        VitaskError: A label text is empty or occurs twice, there are fewer than two labels, a split is missing or
            empty, a label index is outside the set, two label sets give the same answer text, or a class is
            missing from a split (multi-label: from the training split).

    Example:
        >>> targets = {"train": [[0], [1]], "val": [[0], [1]], "test": [[1], [0]]}
        >>> make_task("dots", "dot", ["red", "blue"], splits, targets, content=digest, origin="dots").answers
        (Answer(text='red', labels=(0,)), Answer(text='blue', labels=(1,)))
    """
    labels = tuple(text.strip() for text in labels)
    _check_texts(labels, modality, origin)
    label_sets = {split: _label_sets(targets, split, labels, multi_label, origin) for split in SPLITS}
    if multi_label:
        seen = sorted(set(label_sets["train"]))
        unseen = sorted({*label_sets["val"], *label_sets["test"]} - set(seen))
        texts = [separator.join(labels[i] for i in found) or no_finding for found in seen + unseen]
        answers = tuple(Answer(text, found) for text, found in zip(texts, seen + unseen, strict=True))
        _check_answers(answers, labels, origin)
        candidates = len(seen)
    else:
        answers = tuple(Answer(text, (i,)) for i, text in enumerate(labels))
        candidates = len(answers)
    index = {answer.labels: i for i, answer in enumerate(answers)}
    rows = {split: [index[found] for found in label_sets[split]] for split in SPLITS}
    for split in SPLITS[:1] if multi_label else SPLITS:
        _check_coverage(rows[split], answers, labels, split, origin)
    complete = {split: splits[split].add_column("answer", rows[split]) for split in SPLITS}
    texts = [answer.text for answer in answers]
    identity = [modality, labels, texts, content, [[_ids(splits[split]), rows[split]] for split in SPLITS]]
    return TaskData(
        name, modality, labels, answers, candidates, multi_label, complete, _digest(identity), dict(notes or {})
    )


def with_train(task: TaskData, train: datasets.Dataset, notes: Mapping[str, str]) -> TaskData:
    """Return ``task`` with another training split: checked again, with notes added and a fingerprint of its own.

    Raises:
        VitaskError: A class is missing from ``train``.
    """
    rows = list(train["answer"][:])
    _check_coverage(rows, task.answers, task.labels, "train", task.name)
    fingerprint = _digest([task.fingerprint, _ids(train), rows])
    splits = {**task.splits, "train": train}
    return replace(task, splits=splits, fingerprint=fingerprint, notes={**task.notes, **notes})


def _check_texts(labels: tuple[str, ...], modality: str, origin: str) -> None:
    if not modality.strip():
        raise VitaskError(f"{origin}: the modality is empty; say what the images are, e.g. 'chest X-ray'")
    if len(labels) < 2:
        raise VitaskError(f"{origin}: classification needs at least 2 labels, got {list(labels)}")
    first: dict[str, int] = {}
    for i, text in enumerate(labels):
        if not text:
            raise VitaskError(f"{origin}: the text of label {i} is empty")
        j = first.setdefault(text.casefold(), i)
        if j != i:
            raise VitaskError(f"{origin}: labels {j} ('{labels[j]}') and {i} ('{text}') have the same text; rename one")


def _label_sets(
    targets: Mapping[str, Sequence[Sequence[int]]], split: str, labels: tuple[str, ...], multi_label: bool, origin: str
) -> list[tuple[int, ...]]:
    if not len(targets.get(split, ())):
        raise VitaskError(f"{origin}: split '{split}' is missing or has no images")
    label_sets = [tuple(sorted(int(i) for i in row)) for row in targets[split]]
    for row, found in enumerate(label_sets):
        outside = [i for i in found if not 0 <= i < len(labels)]
        if outside:
            raise VitaskError(
                f"{origin}: split '{split}', row {row}: label {outside[0]} is outside 0..{len(labels) - 1}"
            )
        if not multi_label and len(found) != 1:
            raise VitaskError(f"{origin}: split '{split}', row {row}: expected one label, got {list(found)}")
    return label_sets


def _check_answers(answers: Sequence[Answer], labels: tuple[str, ...], origin: str) -> None:
    first: dict[str, Answer] = {}
    for answer in answers:
        other = first.setdefault(answer.text.casefold(), answer)
        if other is not answer:
            sets = " and ".join(str([labels[i] for i in each.labels]) for each in (other, answer))
            raise VitaskError(f"{origin}: the label sets {sets} give the same answer '{answer.text}'; rename a label")


def _check_coverage(
    rows: Sequence[int], answers: Sequence[Answer], labels: tuple[str, ...], split: str, origin: str
) -> None:
    found = {label for answer in set(rows) for label in answers[answer].labels}
    missing = [f"'{text}'" for i, text in enumerate(labels) if i not in found]
    if missing:
        raise VitaskError(
            f"{origin}: split '{split}' has no image of {', '.join(missing)}; "
            "add images of it to that split, or leave the class out of all splits"
        )


def _ids(split: datasets.Dataset) -> list[str]:
    return list(split["id"][:])


def _digest(identity: Any) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
