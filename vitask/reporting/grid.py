"""The figures of a grid by place: row, mode and evaluation, a value a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitask.reporting.open_ended import flattened, is_open
from vitask.reporting.study import shared

EVALUATION = "test"
INSIDE = ("tsm", "majority", "averaged")
"""Modes that are not evaluated apart: their figures stand beside those of the VLM."""


class GridResults:
    """What a grid measured, as `results.json` holds it.

    Args:
        results: by seed and row, the metrics of that run, one a mode and evaluation.

    Example:
        >>> found = {"0": {"vanilla": [{"mode": "off", "accuracy": 0.5}]}}
        >>> GridResults(found).values(["vanilla"], "accuracy")
        {'0': 0.5}
    """

    def __init__(self, results: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> None:
        self.results = {
            seed: {row: list(map(_looked_up, several)) for row, several in by_row.items()}
            for seed, by_row in results.items()
        }
        self.seeds = list(results)
        self.rows = list(results[self.seeds[0]])

    @property
    def first(self) -> Mapping[str, Any]:
        """The metrics that came first; they say split, samples and conditions."""
        return self.results[self.seeds[0]][self.rows[0]][0]

    @property
    def conditions(self) -> dict[str, str]:
        """What holds for every row, by title; seeds are those of the first seed."""
        return shared(self._conditions())

    @property
    def same_data(self) -> bool:
        """Whether every row had the same data, so that one TSM and one majority class stand for all."""
        first, *others = self._conditions()
        return all(other == first for other in others)

    @property
    def places(self) -> list[tuple[str, str]]:
        """Every evaluation and mode that some row has, in order."""
        return sorted(
            dict.fromkeys((_evaluation(m), m["mode"]) for _, _, m in self._all()),
            key=lambda place: (self.evaluations.index(place[0]), _mode_rank(place[1])),
        )

    @property
    def evaluations(self) -> list[str]:
        """The names of the evaluations, in order."""
        return list(dict.fromkeys(_evaluation(m) for _, _, m in self._all()))

    @property
    def sets(self) -> list[str]:
        """The data sets of a mixture; none otherwise."""
        return list(self.first.get("sets", {}))

    def values(self, place: Sequence[str], key: str, *, of_set: str | None = None) -> dict[str, float]:
        """Return one figure by seed; seeds and places that do not have it are left out.

        Args:
            place: row, mode (`off` by default; `on`, `untuned`, or `tsm`, `majority`, `averaged`) and evaluation.
            key: in the metrics; a dot leads into a part of them: `"ranking.auc"`.
            of_set: a data set of a mixture, instead of the mean over them.
        """
        mode = complete(place)[1]
        found: dict[str, float] = {}
        for seed, metrics in self._at(place):
            value = _look_up(metrics, mode, key, of_set)
            if value is not None:
                found.setdefault(seed, value)
        return found

    def has(self, key: str) -> bool:
        """Say whether some row has a figure, however it was evaluated."""
        return any(_look_up(metrics, metrics["mode"], key, None) is not None for _, _, metrics in self._all())

    def densities(self, place: Sequence[str]) -> tuple[list[float], list[float]]:
        """Return the response's probabilities behind right and wrong images, of all seeds (see `values`)."""
        right: list[float] = []
        wrong: list[float] = []
        for _, metrics in self._at(place):
            right += metrics.get("pairs", {}).get("positive", [])
            wrong += metrics.get("pairs", {}).get("negative", [])
        return right, wrong

    def baseline(self, mode: str, key: str, evaluation: str = EVALUATION, of_set: str | None = None) -> list[float]:
        """Return a figure of the TSM or the majority class, which every row shares, by seed.

        A row that sees exemplars comes first: one that does not may be shared with a grid of another TSM.
        """
        found: dict[str, float] = {}
        for row in sorted(self.rows, key=lambda row: not self.values([row, "on", evaluation], key, of_set=of_set)):
            found = {**self.values([row, mode, evaluation], key, of_set=of_set), **found}
        return [found[seed] for seed in self.seeds if seed in found]

    def _conditions(self) -> list[Mapping[str, str]]:
        """Each row's, of what was evaluated first."""
        return [several[0]["conditions"] for several in self.results[self.seeds[0]].values()]

    def _at(self, place: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every seed's metrics of a place; a figure that stands inside others is looked for in all modes."""
        row, mode, evaluation = complete(place)
        for seed, name, metrics in self._all():
            if name == row and _evaluation(metrics) == evaluation and (mode in INSIDE or metrics["mode"] == mode):
                yield seed, metrics

    def _all(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for seed, by_row in self.results.items():
            for row, several in by_row.items():
                for metrics in several:
                    yield seed, row, metrics


def complete(place: Sequence[str]) -> tuple[str, str, str]:
    """Return row, mode and evaluation of a place that may leave the last ones out.

    Example:
        >>> complete(["vanilla"])
        ('vanilla', 'off', 'test')
    """
    return (*place, *("off", EVALUATION)[len(place) - 1 :])


def _looked_up(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put figures of free answers beside the others."""
    return {**metrics, **flattened(metrics)} if is_open(metrics) else metrics


def _evaluation(metrics: Mapping[str, Any]) -> str:
    return metrics.get("evaluation", EVALUATION)


def _mode_rank(mode: str) -> int:
    order = ("untuned", "off", "on", "tsm")
    return order.index(mode) if mode in order else len(order)


def _look_up(metrics: Mapping[str, Any], mode: str, key: str, of_set: str | None) -> float | None:
    value: Any = metrics.get("sets", {}).get(of_set) if of_set is not None else metrics
    for part in ([mode] if mode in INSIDE and metrics["mode"] != mode else []) + key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None or math.isnan(value) else value
