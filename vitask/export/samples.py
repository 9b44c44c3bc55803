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
from vitask.tsm import ImageSet

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.runs.folder import RunFolder

SIDE = 64
"""Pixels a side of a noise image, where the configuration names none."""


@dataclass(frozen=True)
class Samples:
    """Images to ask about before and after.

    Attributes:
        sets: one image set a data set of the run.
        source: what the images are, in words.
        known: whether they are of the run's own data, so that a table of vectors may hold theirs.
    """

    sets: Sequence[ImageSet]
    source: str
    known: bool

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
    drawn = [_drawn(task, rows, each) for rows in row_ranges(task, "test")]
    return Samples(drawn, f"images of the test split of {task.name}", known=True)


def _drawn(task: TaskData, rows: range, count: int) -> ImageSet:
    split = task.splits["test"]
    chosen = np.linspace(rows.start, rows.stop - 1, min(count, len(rows))).round().astype(int).tolist()
    images = [split["image"][row].convert("RGB") for row in chosen]
    return ImageSet(images, [(split["id"][row],) for row in chosen], [range(len(images))])


def _noise(config: Config, sets: int, count: int, reason: str) -> Samples:
    rng, side = np.random.default_rng(config.seed), config.data.size or SIDE
    pixels = rng.integers(256, size=(sets, count, side, side, 3), dtype=np.uint8)
    names = [(f"<noise {number}>",) for number in range(count)]
    drawn = [ImageSet([Image.fromarray(image) for image in part], names, [range(count)]) for part in pixels]
    return Samples(drawn, f"images of noise, as the run's own data is not at hand ({reason})", known=False)
