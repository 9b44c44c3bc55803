"""What a run is evaluated on: its own data, or other data that asks for the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitask.config.build import build_task
from vitask.config.embedded import check_embedded
from vitask.data import members_of
from vitask.errors import UsageError, VitaskError
from vitask.runs.tuned import finished_run, known_labels

if TYPE_CHECKING:
    from vitask.config.schema import Config, EvaluateConfig
    from vitask.data import TaskData
    from vitask.runs.folder import RunFolder


def evaluated_task(run: RunFolder, config: Config, request: EvaluateConfig) -> TaskData:
    """Load the data that an evaluation asks for.

    Raises:
        UsageError: the split has no images, or the data does not take an option.
        VitaskError: the data is missing or broken, has changed since its run, or has other labels.
    """
    if request.other_data is not None:
        check_embedded(request.other_data)
    other, settings = (run, config) if request.data is None else finished_run(request.data)
    task = build_task(request.other_data or settings.data, settings.seed, settings.cache)
    if request.other_data is None:
        other.check_data(task)
    known, found = known_labels(run, config), [member.labels for member in members_of(task)]
    if found != known:
        raise VitaskError(
            f"the labels of this data ({_shown(found)}) are not those that {run.path} answers with "
            f"({_shown(known)}); give it the same texts (data.label_texts, data.label_file)"
        )
    check_split(task, request.split)
    return task


def check_split(task: TaskData, split: str) -> None:
    """Raise a `UsageError` if a data set has no images in the split."""
    for member in members_of(task):
        if not len(member.splits[split]):
            others = ", ".join(f"split={name}" for name, rows in member.splits.items() if len(rows))
            raise UsageError(
                f"split={split}: {member.name} has no images there; it has some with {others}, and data.fractions "
                "and data.splits say which images go where"
            )


def _shown(label_sets: Sequence[Sequence[str]]) -> str:
    return "; ".join(", ".join(labels) or "none, responses in words" for labels in label_sets)
