"""Several data sets as one task: their labels and answers side by side, each image with those of its own set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from vitask.data.split import join
from vitask.data.task import SPLITS, TaskData
from vitask.errors import UsageError


def mix(name: str, members: Sequence[TaskData]) -> TaskData:
    """Join data sets into one task, one set behind the other.

    The class space is all labels of all sets; sets with the very same labels share them, as MedMNIST's three organ
    sets do (paper, section 3: 70 classes of 12 sets); one with several labels an image shares with its like alone. Each
    answer belongs to one set, and so does each image, through its answer; equal texts in two sets stay two answers.

    Args:
        name: of the mixture.
        members: the data sets, conditions on their training splits included.

    Raises:
        UsageError: there are fewer than two sets, two of one name, or one without labels.

    Example:
        >>> task = mix("both", [digits, xrays])
        >>> len(task.labels), [member.name for member in task.members]
        (12, ['digits', 'pneumoniamnist'])
    """
    names = [member.name for member in members]
    if len(members) < 2:
        raise UsageError(f"data.members: a mixture has at least two data sets, not {len(members)}")
    if doubles := sorted({each for each in names if names.count(each) > 1}):
        raise UsageError(f"data.members: two data sets are called '{doubles[0]}'")
    if words := [member.name for member in members if member.open_ended]:
        raise UsageError(f"data.members.{words[0]}: has responses in words; a mixture takes data sets with labels")
    answers = tuple(
        replace(answer, labels=tuple(label + own.start for label in answer.labels))
        for member, own in zip(members, _label_ranges(members), strict=True)
        for answer in member.answers
    )
    starts = [own.start for own in _ranges([len(member.answers) for member in members])]
    return TaskData(
        name=name,
        modality="mixture",
        labels=tuple(label for labels, _ in dict.fromkeys(map(_class_space, members)) for label in labels),
        answers=answers,
        candidates=len(answers),
        multi_label=any(member.multi_label for member in members),
        splits={split: join([member.splits[split] for member in members], names, starts) for split in SPLITS},
        fingerprint=hashlib.sha256("/".join(member.fingerprint for member in members).encode()).hexdigest(),
        notes={f"{member.name}: {title}": text for member in members for title, text in member.notes.items()},
        members=tuple(members),
    )


def members_of(task: TaskData) -> tuple[TaskData, ...]:
    """Return the data sets of a task; one that is no mixture is its only one."""
    return task.members or (task,)


def label_ranges(task: TaskData) -> list[range]:
    """Return the place of each data set's labels among those of the task."""
    return _label_ranges(members_of(task))


def answer_ranges(task: TaskData) -> list[range]:
    """Return the place of each data set's answers among those of the task."""
    return _ranges([len(member.answers) for member in members_of(task)])


def row_ranges(task: TaskData, split: str) -> list[range]:
    """Return the rows of each data set in a split of the task."""
    return _ranges([len(member.splits[split]) for member in members_of(task)])


def member_of_answer(task: TaskData) -> list[int]:
    """Return the data set, as a number, of each answer of the task."""
    return [number for number, answers in enumerate(answer_ranges(task)) for _ in answers]


def _label_ranges(members: Sequence[TaskData]) -> list[range]:
    distinct = list(dict.fromkeys(map(_class_space, members)))
    places = dict(zip(distinct, _ranges([len(labels) for labels, _ in distinct]), strict=True))
    return [places[_class_space(member)] for member in members]


def _class_space(member: TaskData) -> tuple[tuple[str, ...], bool]:
    """What sets that share their classes have in common."""
    return member.labels, member.multi_label


def _ranges(lengths: Sequence[int]) -> list[range]:
    return [range(start, stop) for start, stop in pairwise([0, *accumulate(lengths)])]
