"""One split of a task: names, images and answers side by side. Parts and changes of it share the images."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np

COLUMNS = ("id", "image", "answer")


class Split:
    """Images with their names and answers, read by column or by row.

    Names and answers stand in memory, images stay where they are until one is asked for. A `datasets.Dataset` would
    copy all images to change a column behind a selection of rows; here nothing is ever copied.

    Args:
        ids: The name of each image, all different, ``(N,)``.
        images: PIL images by index, ``(N,)``.
        answers: The index of each image's answer, ``(N,)``.
        more: Further columns of an open-ended task, each ``(N,)``: ``instruction``, what is asked in the row, and
            ``picture``, the name of its image, which rows of the same image share.

    Example:
        >>> split = Split(["a", "b"], [image, other], [1, 0])
        >>> split["answer"], split[1]["id"], len(split.select([1]))
        ([1, 0], 'b', 1)
    """

    def __init__(
        self,
        ids: Sequence[str],
        images: Sequence[Any],
        answers: Sequence[int],
        more: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self._more = {name: list(column) for name, column in (more or {}).items()}
        own = {"id": list(ids), "image": images, "answer": list(answers)}
        self._columns: dict[str, Sequence[Any]] = {**own, **self._more}

    def __len__(self) -> int:
        """Number of images."""
        return len(self._columns["answer"])

    @overload
    def __getitem__(self, key: str) -> Sequence[Any]: ...

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    def __getitem__(self, key: str | int) -> Any:
        """Return a column, ``id``, ``image``, ``answer`` or a further one; or a row with all of them."""
        if isinstance(key, str):
            return self._columns[key]
        return {name: column[key] for name, column in self._columns.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        return (self[row] for row in range(len(self)))

    def select(self, rows: Sequence[int]) -> Split:
        """Return some rows, in that order."""
        ids, images, answers = (self._columns[name] for name in COLUMNS)
        more = {name: [column[row] for row in rows] for name, column in self._more.items()}
        return Split([ids[row] for row in rows], _Selected(images, rows), [answers[row] for row in rows], more)

    def with_answers(self, answers: Sequence[int]) -> Split:
        """Return the same images with other answers."""
        return Split(self["id"], self["image"], answers, self._more)

    def with_images(self, images: Sequence[Any]) -> Split:
        """Return the same rows with other images."""
        return Split(self["id"], images, self["answer"], self._more)


def labelled(rows: Mapping[str, Sequence[Any]], answers: Sequence[int], chosen: Sequence[int] | None = None) -> Split:
    """Give rows with the columns ``id`` and ``image``, a `datasets.Dataset` for one, their answers.

    Args:
        rows: The images and their names.
        answers: One for each chosen row.
        chosen: The rows that the split consists of; all of them by default.
    """
    ids, images = rows["id"][:], rows["image"]
    if chosen is None:
        return Split(ids, images, answers)
    return Split([ids[row] for row in chosen], _Selected(images, chosen), answers)


def join(splits: Sequence[Split], prefixes: Sequence[str], starts: Sequence[int]) -> Split:
    """Put splits one behind the other, each with a word before its names and a number added to its answers."""
    return Split(
        [f"{prefix}/{name}" for prefix, split in zip(prefixes, splits, strict=True) for name in split["id"]],
        _Joined([split["image"] for split in splits]),
        [answer + start for start, split in zip(starts, splits, strict=True) for answer in split["answer"]],
    )


class _Selected(Sequence):
    """Some items of a sequence, each looked up when it is asked for."""

    def __init__(self, items: Sequence[Any], places: Sequence[int]) -> None:
        self.items, self.places = items, np.array(places, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        return self.items[int(self.places[index])]


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
