"""Examples for a report: what the exemplar changed, with the images where the data is still there."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.config.build import build_task
from vitask.data import members_of
from vitask.errors import VitaskError
from vitask.reporting.examples import Rows, ShownExamples, Thumbnail, choose_examples, counts
from vitask.reporting.study import Result, RunRecord, Study
from vitask.runs.folder import RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

    from vitask.data import TaskData

SIDE = 112
"""Pixels of the longer side of an image."""


class Gallery:
    """Chooses examples and loads their images; each data set is loaded once.

    Args:
        count: images of each kind that a row shows at most.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._tasks: dict[str, TaskData | str] = {}

    def examples(self, study: Study) -> dict[str, ShownExamples]:
        """Return examples by row, of rows that were evaluated without the exemplar on their own data.

        With those of the exemplar beside, they show what it changed; else what was answered rightly and wrongly.
        """
        found = {}
        for row, runs in study.runs.items() if self.count else ():
            by_mode = {evaluation: _of_seed(study, row, evaluation, runs[0].seed) for evaluation in study.evaluations}
            usable = [evaluation for evaluation, modes in by_mode.items() if "off" in modes]
            if usable:
                evaluation = max(usable, key=lambda name: "on" in by_mode[name])
                found[row] = self._shown(runs[0], evaluation, by_mode[evaluation])
        return {row: shown for row, shown in found.items() if shown.examples}

    def _shown(self, run: RunRecord, evaluation: str, by_mode: Mapping[str, Result]) -> ShownExamples:
        split = by_mode["off"].metrics.get("split", "test")
        predictions = {mode: _predictions(by_mode[mode].folder) for mode in ("off", "on") if mode in by_mode}
        if rows := _predictions(run.tsm / "eval" / f"{split}-tsm"):
            predictions["tsm"] = rows
        examples = choose_examples(predictions, self.count)
        wanted = [example.id for several in examples.values() for example in several]
        images, note = self._images(run, split, wanted)
        return ShownExamples(f"Seed {run.seed}, {evaluation}", counts(predictions), examples, images, note)

    def _images(self, run: RunRecord, split: str, wanted: Sequence[str]) -> tuple[dict[str, Thumbnail], str]:
        config = RunFolder(run.path).config()
        key = str((config.data, config.seed, config.cache))
        if key not in self._tasks:
            try:
                self._tasks[key] = build_task(config.data, config.seed, config.cache)
            except (VitaskError, OSError) as error:
                self._tasks[key] = f"The images are left out: {error}"
        task = self._tasks[key]
        if isinstance(task, str):
            return {}, task
        if task.fingerprint != run.environment.get("data", {}).get("fingerprint"):
            return {}, "The images are left out: the data has changed since this run."
        rows = _rows_of(task, split)
        images = {}
        for name in wanted:
            if name in rows:
                column, row = rows[name]
                images[name] = thumbnail(column[row])
        return images, ""


def thumbnail(image: Image) -> Thumbnail:
    """Shrink an image to at most 112 pixels a side, as a PNG in a data URI."""
    small = image if image.mode in ("L", "RGB") else image.convert("RGB")
    if max(small.size) > SIDE:
        small = small.copy()
        small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return Thumbnail(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", *small.size)


def _predictions(folder: Path) -> Rows:
    """The rows of an evaluation; those of a mixture's data sets one behind the other, named after their set.

    Those of answers in words say what is right and what was answered under the names that labels have; without free
    answers there are none.
    """
    own = folder / "predictions.csv"
    if own.is_file():
        return _read(own)
    inner = sorted(folder.glob("*/predictions.csv"))
    return [{**row, "id": f"{path.parent.name}/{row['id']}"} for path in inner for row in _read(path)]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "response" not in rows[0]:
        return rows
    return [{**row, "truth": row["response"], "prediction": row["text"]} for row in rows if "text" in row]


def _rows_of(task: TaskData, split: str) -> dict[str, tuple[Any, int]]:
    """Where each image of a split is, by its name."""
    several = bool(task.members)
    return {
        f"{member.name}/{name}" if several else name: (member.splits[split]["image"], row)
        for member in members_of(task)
        for row, name in enumerate(member.splits[split]["id"][:])
    }


def _of_seed(study: Study, row: str, evaluation: str, seed: int) -> dict[str, Result]:
    """What one run was found to do on its own data, by mode."""
    found = study.select(evaluation, row)
    return {each.mode: each for each in found if each.seed == seed and each.folder and _on_own_data(each)}


def _on_own_data(result: Result) -> bool:
    return not result.plugged and "_data-" not in f"_{result.folder.name}"
