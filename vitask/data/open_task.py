"""An open-ended task: every row has an instruction and a response of its own; captioning, question answering."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vitask.data.answers import Answer
from vitask.data.audit import Audit, audit_notes
from vitask.data.mixture import member_of_answer
from vitask.data.split import Split
from vitask.data.task import SPLITS, TaskData
from vitask.errors import VitaskError


def make_open_task(
    name: str,
    modality: str,
    splits: Mapping[str, Split],
    responses: Sequence[str],
    *,
    content: str,
    origin: str,
    allow_empty: bool = False,
    audit: Audit | None = None,
    notes: Mapping[str, str] | None = None,
) -> TaskData:
    """Check an open-ended task and fingerprint it: what `make_task` is to a classification task.

    Args:
        name: Short name of the task.
        modality: What the images are.
        splits: ``train``, ``val`` and ``test``, with the columns ``instruction`` and ``picture``.
        responses: The distinct texts that ``answer`` numbers, over all splits.
        content: A digest of all images, which becomes part of the fingerprint.
        origin: Where the data came from; errors begin with it.
        allow_empty: Let train and val be empty: a task to evaluate on.
        audit: Counts over the distinct images of each split.
        notes: Conditions to print beside results.

    Raises:
        VitaskError: A split is empty.
    """
    for split in SPLITS[2:] if allow_empty else SPLITS:
        if not len(splits[split]):
            raise VitaskError(f"{origin}: split '{split}' has no rows")
    identity = [modality, list(responses), content]
    identity.append([[splits[split][key] for key in ("id", "instruction", "answer")] for split in SPLITS])
    pictures = {split: len(set(splits[split]["picture"])) for split in SPLITS}
    return TaskData(
        name,
        modality,
        labels=(),
        answers=tuple(Answer(text, ()) for text in responses),
        candidates=len(responses),
        multi_label=False,
        splits=splits,
        fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        notes={**(notes or {}), **(audit_notes(audit, pictures) if audit else {})},
        audit=audit,
    )


def instruction_ids(task: TaskData, split: str) -> NDArray[np.integer]:
    """Return a number for the instruction of each row of a split; rows of one data set with labels share theirs."""
    if task.open_ended:
        return np.unique(task.splits[split]["instruction"], return_inverse=True)[1]
    member_of = np.asarray(member_of_answer(task))
    return member_of[np.asarray(task.splits[split]["answer"][:], dtype=int)]


def pictures_of(split: Split) -> tuple[list[int], list[int]]:
    """Return the first row of each distinct image of an open-ended split, and for each row the place of its image.

    Example:
        >>> pictures_of(Split("abc", images, [0, 1, 2], {"picture": ["1.png", "1.png", "2.png"]}))
        ([0, 2], [0, 0, 1])
    """
    places: dict[str, int] = {}
    rows = []
    for row, picture in enumerate(split["picture"]):
        if picture not in places:
            places[picture] = len(rows)
            rows.append(row)
    return rows, [places[picture] for picture in split["picture"]]
