"""A task as every other room sees it: labels, the closed set of answers, and three splits of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vitask.data.answers import Answer, form_answers
from vitask.data.audit import Audit, audit_notes
from vitask.data.labels import Label
from vitask.data.split import Split, labelled
from vitask.errors import VitaskError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class TaskData:
    """A classification task: what is asked, what may be answered, and the images. Build one with `make_task`.

    An open-ended one (`make_open_task`) has no labels: every row brings its own instruction, its answers are the
    distinct responses of all splits, and nothing is chosen from them.

    Attributes:
        name: Short name, e.g. ``"pneumoniamnist"``.
        modality: What the images are, e.g. ``"chest X-ray"``; it fills the instruction.
        labels: Label texts in canonical order.
        answers: The closed set of responses. Single-label: one per label, in the same order. Multi-label: the distinct
            label sets that occur, those of the training split first, each group sorted by label index.
        candidates: The first so many answers are what scoring may choose from: all of them, or, with several labels,
            those that the full training split holds.
        multi_label: Whether an image may have any number of labels.
        splits: ``"train"``, ``"val"`` and ``"test"``, each with the columns ``id`` (str), ``image`` (a PIL image, RGB
            or L, read when it is asked for) and ``answer`` (int, an index into `answers`).
        fingerprint: A sha256 in hex that changes when a pixel, an id, a label, a text or the modality changes.
        notes: Conditions to print beside any result on this task, by a short title.
        ordinal: Whether the labels are grades in ascending order.
        definitions: What a label means, by its text, for those that have a definition.
        audit: Duplicates and other counts over the images, where the source knows them.
        members: The data sets of a mixture (see `mix`); none otherwise.
    """

    name: str
    modality: str
    labels: tuple[str, ...]
    answers: tuple[Answer, ...]
    candidates: int
    multi_label: bool
    splits: Mapping[str, Split]
    fingerprint: str
    notes: Mapping[str, str]
    ordinal: bool = False
    definitions: Mapping[str, str] = field(default_factory=dict)
    audit: Audit | None = None
    members: tuple[TaskData, ...] = ()

    @property
    def open_ended(self) -> bool:
        """Whether responses are free text rather than labels."""
        return not self.labels


def make_task(
    name: str,
    modality: str,
    labels: Sequence[str | Label],
    splits: Mapping[str, Mapping[str, Sequence[Any]]],
    targets: Mapping[str, Sequence[Sequence[int]]],
    *,
    content: str,
    origin: str,
    rows: Mapping[str, Sequence[int]] | None = None,
    multi_label: bool = False,
    ordinal: bool = False,
    separator: str = ", ",
    no_finding: str = "no finding",
    allow_missing: bool = False,
    allow_empty: bool = False,
    audit: Audit | None = None,
    notes: Mapping[str, str] | None = None,
) -> TaskData:
    """Check a task, form its closed set of answers and fingerprint it: the one way into `TaskData`.

    Args:
        name: Short name of the task.
        modality: What the images are.
        labels: Label texts, or labels with synonyms and definitions; surrounding white space is dropped.
        splits: ``train``, ``val`` and ``test``, with the columns ``id`` and ``image``: data sets of `datasets`, say.
        targets: For each split the label indices of each row; exactly one per row unless ``multi_label``.
        content: A digest of all pixels (or file bytes), which becomes part of the fingerprint.
        origin: Where the data came from (a path, a package); errors begin with it.
        rows: The rows of ``splits`` that each split consists of; all of them by default.
        multi_label: Whether a row may have any number of labels.
        ordinal: Whether the labels are grades in ascending order.
        separator: What joins the label texts of one multi-label answer.
        no_finding: The multi-label answer for a row without labels.
        allow_missing: Let a class be without images in a split, and say so in a note.
        allow_empty: Let train and val be empty: a task to evaluate on.
        audit: Counts over the images; what matters for results becomes a note.
        notes: Conditions to print beside results.

    Returns:
        The task, with the column ``answer`` added to each split.

    Raises:
        VitaskError: A label text is empty or occurs twice, there are fewer than two labels, a split is missing or
            empty, a label index is outside the set, two label sets give the same answer text, a synonym means two
            labels, or a class is missing from a split (multi-label: from the training split).

    Example:
        >>> targets = {"train": [[0], [1]], "val": [[0], [1]], "test": [[1], [0]]}
        >>> make_task("dots", "dot", ["red", "blue"], splits, targets, content=digest, origin="dots").answers
        (Answer(text='red', labels=(0,)), Answer(text='blue', labels=(1,)))
    """
    known = [replace(each, text=each.text.strip()) if isinstance(each, Label) else Label(each, each.strip())
             for each in labels]  # fmt: skip
    texts = tuple(label.text for label in known)
    _check_texts(texts, modality, origin)
    optional = SPLITS[:2] if allow_empty else ()
    sets = {split: _label_sets(targets, split, texts, multi_label, origin, split in optional) for split in SPLITS}
    answers, candidates = form_answers(known, sets, multi_label, separator, no_finding, origin)
    index = {answer.labels: i for i, answer in enumerate(answers)}
    found = {split: [index[labels] for labels in sets[split]] for split in SPLITS}
    missing = {split: _missing(found[split], answers, texts) for split in SPLITS if found[split]}
    if not (allow_missing or allow_empty):
        for split in SPLITS[:1] if multi_label else SPLITS:
            _refuse_missing(missing[split], split, origin)
    complete = {split: labelled(splits[split], found[split], rows and rows[split]) for split in SPLITS}
    identity = [modality, texts, [answer.text for answer in answers], content]
    identity.append([[complete[split]["id"], found[split]] for split in SPLITS])
    totals = {split: len(found[split]) for split in SPLITS}
    return TaskData(
        name,
        modality,
        texts,
        answers,
        candidates,
        multi_label,
        complete,
        _digest(identity),
        {
            **(notes or {}),
            **(_missing_note(missing) if allow_missing or allow_empty else {}),
            **(audit_notes(audit, totals) if audit else {}),
        },
        ordinal=ordinal,
        definitions={label.text: label.definition for label in known if label.definition},
        audit=audit,
    )


def with_train(task: TaskData, train: Split, notes: Mapping[str, str]) -> TaskData:
    """Return ``task`` with another training split: checked again, with notes added and a fingerprint of its own.

    Raises:
        VitaskError: A class that the task's training split has is missing from ``train``.
    """
    rows = train["answer"]
    before = _missing(task.splits["train"]["answer"][:], task.answers, task.labels)
    now = _missing(rows, task.answers, task.labels)
    _refuse_missing([text for text in now if text not in before], "train", task.name)
    fingerprint = _digest([task.fingerprint, train["id"], rows])
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
    targets: Mapping[str, Sequence[Sequence[int]]],
    split: str,
    labels: tuple[str, ...],
    multi_label: bool,
    origin: str,
    optional: bool,
) -> list[tuple[int, ...]]:
    if not len(targets.get(split, ())):
        if optional:
            return []
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


def _missing(rows: Sequence[int], answers: Sequence[Answer], labels: Sequence[str]) -> list[str]:
    found = {label for answer in set(rows) for label in answers[answer].labels}
    return [text for i, text in enumerate(labels) if i not in found]


def _refuse_missing(missing: Sequence[str], split: str, origin: str) -> None:
    if missing:
        raise VitaskError(
            f"{origin}: split '{split}' has no image of {', '.join(map(repr, missing))}; "
            "add images of it to that split, leave the class out of all splits, or set data.allow_missing=true"
        )


def _missing_note(missing: Mapping[str, Sequence[str]]) -> dict[str, str]:
    where: dict[str, list[str]] = {}
    for split, texts in missing.items():
        for text in texts:
            where.setdefault(text, []).append(split)
    lacking = [f"no image of '{text}' in {', '.join(splits)}" for text, splits in where.items()]
    return {"missing classes": "; ".join(lacking)} if lacking else {}


def _digest(identity: Any) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
