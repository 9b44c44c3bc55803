"""The images that an export is checked with: some of the run's test split, or noise where that is not at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vitask.config.build import build_task
from vitask.data import row_ranges
from vitask.errors import VitaskError
from vitask.runs.identity import is_open_ended
from vitask.tsm import ImageSet

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.runs.folder import RunFolder

SIDE = 64
"""Pixels a side of a noise image, where the configuration names none."""
UNKNOWN = ("What is shown?", "noise")
"""What a run that answers in words is asked of noise, and a response whose likelihood is compared."""


@dataclass(frozen=True)
class Samples:
    """Images to ask about before and after.

    Attributes:
        sets: one image set a data set of the run.
        source: what the images are, in words.
        known: whether they are of the run's own data, so that a table of vectors may hold theirs.
        questions: of a run that answers in words the instruction and a response to each image.
    """

    sets: Sequence[ImageSet]
    source: str
    known: bool
    questions: Sequence[tuple[str, str]] = ()

    @property
    def count(self) -> int:
        """How many images they are."""
        return sum(len(shown.images) for shown in self.sets)


def draw_samples(run: RunFolder, config: Config, sets: int, count: int) -> Samples:
    """Draw images evenly from the test split of a run's data, the same for each of its data sets.

    Args:
        run: the run.
        config: its configuration.
        sets: how many data sets it has.
        count: images to draw, at least one a data set; a split that has fewer gives all.
    """
    each = max(1, count // sets)
    try:
        task = build_task(config.data, config.seed, config.cache)
        run.check_data(task)
    except (VitaskError, OSError) as error:
        return _noise(config, sets, each, str(error))
    if not all(map(len, row_ranges(task, "test"))):
        return _noise(config, sets, each, "there are no test images")
    split, chosen = task.splits["test"], [_spaced(rows, each) for rows in row_ranges(task, "test")]
    drawn = [_drawn(task, rows) for rows in chosen]
    if not task.open_ended:
        return Samples(drawn, f"images of the test split of {task.name}", known=True)
    questions = [(split["instruction"][row], task.answers[split["answer"][row]].text) for row in chosen[0]]
    return Samples(drawn, f"questions of the test split of {task.name}", known=True, questions=questions)


def _spaced(rows: range, count: int) -> list[int]:
    return np.linspace(rows.start, rows.stop - 1, min(count, len(rows))).round().astype(int).tolist()


def _drawn(task: TaskData, chosen: Sequence[int]) -> ImageSet:
    split = task.splits["test"]
    images = [split["image"][row].convert("RGB") for row in chosen]
    columns = ("picture", "id") if task.open_ended else ("id",)
    return ImageSet(images, [tuple(split[key][row] for key in columns) for row in chosen], [range(len(images))])


def _noise(config: Config, sets: int, count: int, reason: str) -> Samples:
    rng, side = np.random.default_rng(config.seed), config.data.size or SIDE
    pixels = rng.integers(256, size=(sets, count, side, side, 3), dtype=np.uint8)
    names = [(f"<noise {number}>",) for number in range(count)]
    drawn = [ImageSet([Image.fromarray(image) for image in part], names, [range(count)]) for part in pixels]
    questions = [UNKNOWN] * count if is_open_ended(config) else ()
    said = f"images of noise, as the run's own data is not at hand ({reason})"
    return Samples(drawn, said, known=False, questions=questions)
