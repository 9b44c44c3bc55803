"""What a report is about: runs on the same data, or a grid, with what each evaluation of them found."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

MODES = {"tsm": "TSM", "off": "w/o EP", "on": "w/ EP", "untuned": "before tuning"}
"""How a run was evaluated, in the order of columns."""
COMPARED = ("accuracy", "macro_f1", "log_likelihood", "exact_match", "rank_accuracy")
BySeed: TypeAlias = "Mapping[int, Mapping[str, Any]]"


class Estimate(NamedTuple):
    """One figure: of one run with its bootstrap interval, if there is one, or the mean and spread over seeds."""

    value: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 1


@dataclass(frozen=True)
class RunRecord:
    """One finished run, as its folder holds it.

    Attributes:
        name: of the folder.
        path: of the folder, as the reader gave it.
        stage, seed: of the run.
        data: the short name of the data set.
        key: what its outcome depends on, but for the seed; the same for the runs of one row.
        config: resolved settings.
        weights: of the stage's loss terms.
        environment: versions, data, labels.
        summary: the result of training.
        log: a mapping a logged step.
        earlier: the runs of the VLM that it starts from, the first stage first.
        probes: what `vitask evaluate probe=...` found, a mapping a probe.
        tsm: the folder of its TSM, which need not be there.
        tsm_cost: what training that TSM cost, if the run needed it and it is there.
    """

    name: str
    path: Path
    stage: str
    seed: int
    data: str
    key: str
    config: Mapping[str, Any]
    weights: Mapping[str, float]
    environment: Mapping[str, Any]
    summary: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    earlier: tuple[RunRecord, ...] = ()
    probes: Sequence[Mapping[str, Any]] = ()
    tsm: Path | None = None
    tsm_cost: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One evaluation of one run in one mode.

    Attributes:
        row: what the run is called in its study.
        seed: of the run.
        evaluation: what it was evaluated on: the split, and what else was asked for.
        mode: `off`, `on`, `tsm` or `untuned`.
        metrics: as in `metrics.json`, and `pairs`, the probabilities of right and wrong pairs, if they were measured.
        data: the short name of the data set.
        folder: where `predictions.csv` is, if it is known.
        plugged: whether another TSM took the place of the run's own.
    """

    row: str
    seed: int
    evaluation: str
    mode: str
    metrics: Mapping[str, Any]
    data: str
    folder: Path | None = None
    plugged: bool = False


@dataclass(frozen=True)
class Study:
    """Rows to compare.

    Attributes:
        title: what is compared.
        text: what a reader has to know, in words.
        results: every evaluation.
        runs: by row, if their folders are known, one a seed.
        grid: `grid` and `results` of `results.json`, of a grid.
    """

    title: str
    text: str
    results: Sequence[Result]
    runs: Mapping[str, Sequence[RunRecord]] = field(default_factory=dict)
    grid: Mapping[str, Any] | None = None

    @property
    def rows(self) -> list[str]:
        """The names of the rows that were evaluated, in order."""
        return list(dict.fromkeys(result.row for result in self.results))

    @property
    def evaluations(self) -> list[str]:
        """What the rows were evaluated on, in order."""
        return list(dict.fromkeys(result.evaluation for result in self.results))

    @property
    def conditions(self) -> dict[str, str]:
        """What holds for every row of every evaluation, by title."""
        return shared([self.conditions_of(evaluation) for evaluation in self.evaluations])

    def conditions_of(self, evaluation: str) -> dict[str, str]:
        """Return what was done to the data or the answers of all rows, by title; of several seeds the words of one."""
        return shared([text for _, text in self._said(evaluation)])

    def exceptions(self, evaluation: str) -> dict[str, dict[str, list[str]]]:
        """Return what holds for some rows or modes alone: by title and text, who they are."""
        found: dict[str, dict[str, list[str]]] = {}
        everywhere = self.conditions_of(evaluation)
        for name, conditions in self._said(evaluation):
            for title in (title for title in conditions if title not in everywhere):
                found.setdefault(title, {}).setdefault(conditions[title], []).append(name)
        return found

    def _said(self, evaluation: str) -> list[tuple[str, Mapping[str, str]]]:
        """Each row, or each of its modes where these differ, with its conditions, of a seed that all have if one is."""
        shared = set.intersection(*({r.seed for r in found} for _, _, found in self.places(evaluation)))
        said: dict[str, dict[str, Mapping[str, str]]] = {}
        for row, mode, found in self.places(evaluation):
            chosen = next((result for result in found if result.seed in shared), found[0])
            said.setdefault(row, {})[mode] = chosen.metrics.get("conditions", {})
        rows = []
        for row, by_mode in said.items():
            texts = list(by_mode.values())
            if all(text == texts[0] for text in texts):
                rows.append((row, texts[0]))
            else:
                rows += [(f"{row}, {MODES.get(mode, mode)}", text) for mode, text in by_mode.items()]
        return rows

    def select(self, evaluation: str, row: str | None = None, mode: str | None = None) -> list[Result]:
        """Return the results of an evaluation, of one row and mode where given, a result a seed."""
        return [
            result
            for result in self.results
            if result.evaluation == evaluation and row in (None, result.row) and mode in (None, result.mode)
        ]

    def modes(self, evaluation: str) -> list[str]:
        """Return the modes that an evaluation has, in the order of columns."""
        found = {result.mode for result in self.select(evaluation)}
        return [mode for mode in MODES if mode in found] + sorted(found - set(MODES))

    def places(self, evaluation: str) -> Iterator[tuple[str, str, list[Result]]]:
        """Yield each row and mode with its results."""
        for row in self.rows:
            for mode in self.modes(evaluation):
                if found := self.select(evaluation, row, mode):
                    yield row, mode, found


def figure_of(metrics: Mapping[str, Any] | None, key: str) -> float | None:
    """Look up a figure; a dot leads into a part; none where it is missing or no number.

    Example:
        >>> figure_of({"ranking": {"auc": 0.9}}, "ranking.auc")
        0.9
    """
    value: Any = metrics
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def estimate(metrics: Sequence[Mapping[str, Any] | None], key: str) -> Estimate | None:
    """Sum up a figure over seeds: mean and standard deviation; of a single one its bootstrap interval.

    Example:
        >>> estimate([{"accuracy": 0.5}, {"accuracy": 0.7}], "accuracy")
        Estimate(value=0.6, sd=0.141..., low=None, high=None, seeds=2)
        >>> estimate([{"accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6]}}], "accuracy")
        Estimate(value=0.5, sd=None, low=0.4, high=0.6, seeds=1)
    """
    found = [(each, value) for each in metrics if (value := figure_of(each, key)) is not None]
    values = [value for _, value in found]
    if len(values) > 1:
        return Estimate(statistics.mean(values), statistics.stdev(values), seeds=len(values))
    if not values:
        return None
    interval = (found[0][0].get("intervals") or {}).get(key)
    return Estimate(values[0], None, *interval) if interval and None not in interval else Estimate(values[0])


def baselines(study: Study, evaluation: str) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return what stands beside every VLM: the TSMs, the majority class or commonest response, chance; a figure a seed.

    A TSM that has a row of its own is left out. Rows that differ in one of these get one each.
    """
    own = [result.metrics for result in study.select(evaluation, mode="tsm")]
    tsms, simple, chance = {}, {}, {}
    for row in study.rows:
        found = study.select(evaluation, row)
        tsm = {r.seed: r.metrics["tsm"] for r in found if r.mode != "tsm" and r.metrics.get("tsm")}
        if not any(_same(metrics, other) for metrics in tsm.values() for other in own):
            tsms[row] = tsm
        simple[row] = {r.seed: r.metrics["majority"] for r in found if r.metrics.get("majority")}
        chance[row] = {r.seed: {"rank_accuracy": r.metrics["chance"]} for r in found if r.metrics.get("chance")}
    answers = [metrics for by_seed in simple.values() for metrics in by_seed.values()]
    guess = "commonest response" if any("exact_match" in each for each in answers) else "majority class"
    return [*_merged("TSM", tsms), *_merged(guess, simple), *_merged("chance", chance)]


def _merged(name: str, by_row: Mapping[str, BySeed]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Put the rows together whose figures are the same; if that does not leave one, each names its rows."""
    parts: list[tuple[list[str], dict[int, Mapping[str, Any]]]] = []
    for row, found in ((row, found) for row, found in by_row.items() if found):
        for rows, known in parts:
            if all(_same(known[seed], metrics) for seed, metrics in found.items() if seed in known):
                rows.append(row)
                known.update(found)
                break
        else:
            parts.append(([row], dict(found)))
    return [
        (name if len(parts) == 1 else f"{name} of {', '.join(rows)}", list(known.values())) for rows, known in parts
    ]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of figures are of the same answers, as far as both have them."""
    pairs = [(figure_of(one, key), figure_of(other, key)) for key in COMPARED]
    return all(own == their for own, their in pairs if own is not None and their is not None)


def shared(several: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what all of one or more mappings have, with the same text.

    Example:
        >>> shared([{"noise": "20 %", "split": "made here"}, {"noise": "40 %", "split": "made here"}])
        {'split': 'made here'}
    """
    first, *others = several
    return {title: text for title, text in first.items() if all(other.get(title) == text for other in others)}
