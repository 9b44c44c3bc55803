"""Which images to show: by what the exemplar changed, or, where there is none, those answered rightly and wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

KINDS = {
    "fixed": "Wrong without the exemplar, right with it",
    "broken": "Right without the exemplar, wrong with it",
    "wrong": "Wrong either way",
    "right": "Answered rightly",
    "missed": "Answered wrongly",
}
TOP = 3
Rows = Sequence[Mapping[str, str]]


class Answer(NamedTuple):
    """What one model answered: the text, whether it is right, and the likeliest labels with their probabilities."""

    who: str
    text: str
    right: bool
    top: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Example:
    """One image of a split, its truth, and the answers to it; what was asked, where every row has its own question."""

    id: str
    truth: str
    answers: Sequence[Answer]
    instruction: str = ""


class Thumbnail(NamedTuple):
    """A small image as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class ShownExamples:
    """Examples on the page.

    Attributes:
        of: what they are of: run, split, data set.
        counts: by kind the images, or questions, of the split.
        examples: by kind those to show.
        images: by id; none where the data could not be loaded.
        note: why images are missing, if they are.
    """

    of: str
    counts: Mapping[str, int]
    examples: Mapping[str, Sequence[Example]]
    images: Mapping[str, Thumbnail]
    note: str = ""

    @property
    def title(self) -> str:
        """What they show."""
        return "Examples" if {"right", "missed"} & self.examples.keys() else "What the exemplar changed"


def choose_examples(predictions: Mapping[str, Rows], count: int) -> dict[str, list[Example]]:
    """Choose images of each kind, evenly spaced over the split, so that nobody picks the prettiest.

    Args:
        predictions: by mode the rows of `predictions.csv`: `off`, `on` where there is an exemplar, `tsm` if there is
            one. Of answers in words with `truth` and `prediction` for the right response and the answer.
        count: images of each kind at most.

    Returns:
        By kind (`fixed`, `broken`, `wrong`; without exemplar `right`, `missed`) the examples; kinds without any are
        left out.
    """
    tables = {mode: {row["id"]: row for row in rows} for mode, rows in predictions.items()}
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name, kind in _kinds(predictions):
        if kind:
            kinds[kind].append(name)
    return {
        kind: [_example(name, tables) for name in spaced(names, count)]
        for kind, names in kinds.items()
        if names and count
    }


def spaced(items: Sequence[str], count: int) -> list[str]:
    """Return so many items, evenly spaced.

    Example:
        >>> spaced("abcdefg", 3)
        ['b', 'd', 'f']
    """
    if len(items) <= count:
        return list(items)
    return [items[int((place + 0.5) * len(items) / count)] for place in range(count)]


def counts(predictions: Mapping[str, Rows]) -> dict[str, int]:
    """Count the images of each kind."""
    kinds = [kind for _, kind in _kinds(predictions)]
    known = list(KINDS)[:3] if "on" in predictions else list(KINDS)[3:]
    return {kind: kinds.count(kind) for kind in known}


def _kinds(predictions: Mapping[str, Rows]) -> Iterator[tuple[str, str | None]]:
    """Yield each row that every mode has with its kind."""
    if "on" not in predictions:
        yield from ((row["id"], "right" if _is_right(row) else "missed") for row in predictions["off"])
        return
    right = {row["id"]: _is_right(row) for row in predictions["on"]}
    both = [row for row in predictions["off"] if row["id"] in right]
    yield from ((row["id"], _kind(_is_right(row), right[row["id"]])) for row in both)


def _kind(without: bool, with_exemplar: bool) -> str | None:
    if without:
        return None if with_exemplar else "broken"
    return "fixed" if with_exemplar else "wrong"


def _is_right(row: Mapping[str, str]) -> bool:
    return row["exact_match"] == "1" if "exact_match" in row else row["prediction"] == row["truth"]


def _example(name: str, tables: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Example:
    row = tables["off"][name]
    return Example(name, row["truth"], list(_answers(name, tables)), row.get("instruction", ""))


def _answers(name: str, tables: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[Answer]:
    for mode, who in (("off", "w/o EP"), ("on", "w/ EP"), ("tsm", "TSM")):
        if (row := tables.get(mode, {}).get(name)) is not None:
            yield Answer(who, row["prediction"], _is_right(row), _top(row))


def _top(row: Mapping[str, str]) -> list[tuple[str, float]]:
    found = [(key[2:-1], float(value)) for key, value in row.items() if key.startswith("p(") and key.endswith(")")]
    return sorted(found, key=lambda pair: -pair[1])[:TOP]
