"""Several data sets as one task: their labels and answers side by side, each image with those of its own set."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from vitask.data.task import SPLITS, TaskData
from vitask.errors import UsageError


def mix(name: str, members: Sequence[TaskData]) -> TaskData:
    """Join data sets into one task, one set behind the other.

    The class space is all labels of all sets; sets with the very same labels share them, as MedMNIST's three organ
    sets do (paper, section 3: 70 classes of 12 sets). Each answer belongs to one set, and so does each image, through
    its answer; equal texts in two sets stay two answers.

    Args:
        name: of the mixture.
        members: the data sets, conditions on their training splits included.

    Raises:
        UsageError: there are fewer than two sets, or two of one name.

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
    answers = tuple(
        replace(answer, labels=tuple(label + own.start for label in answer.labels))
        for member, own in zip(members, _label_ranges(members), strict=True)
        for answer in member.answers
    )
    splits = {split: JoinedSplit(members, split) for split in SPLITS}
    return TaskData(
        name=name,
        modality="mixture",
        labels=tuple(label for labels in dict.fromkeys(member.labels for member in members) for label in labels),
        answers=answers,
        candidates=len(answers),
        multi_label=any(member.multi_label for member in members),
        splits=splits,
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


def member_of_answer(task: TaskData) -> list[int]:
    """Return the data set, as a number, of each answer of the task."""
    return [number for number, answers in enumerate(answer_ranges(task)) for _ in answers]


class JoinedSplit:
    """One split of several data sets, read as one: the columns `id`, `image` and `answer`; nothing is copied."""

    def __init__(self, members: Sequence[TaskData], split: str) -> None:
        parts = [member.splits[split] for member in members]
        starts = [own.start for own in _ranges([len(member.answers) for member in members])]
        self._columns: dict[str, Sequence[Any]] = {
            "id": [f"{m.name}/{each}" for m, part in zip(members, parts, strict=True) for each in part["id"][:]],
            "image": _Joined([part["image"] for part in parts]),
            "answer": [each + start for part, start in zip(parts, starts, strict=True) for each in part["answer"][:]],
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._columns["answer"])

    def __getitem__(self, column: str) -> Sequence[Any]:
        """Return a column."""
        return self._columns[column]


class _Joined(Sequence):
    """Sequences one behind the other, each item looked up in its own."""

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Any:
        part = bisect_right(self.ends, index)
        return self.parts[part][index - (self.ends[part - 1] if part else 0)]


def _label_ranges(members: Sequence[TaskData]) -> list[range]:
    distinct = list(dict.fromkeys(member.labels for member in members))
    places = dict(zip(distinct, _ranges([len(labels) for labels in distinct]), strict=True))
    return [places[member.labels] for member in members]


def _ranges(lengths: Sequence[int]) -> list[range]:
    return [range(start, stop) for start, stop in pairwise([0, *accumulate(lengths)])]
