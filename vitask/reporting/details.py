"""What a report shows of one row: figures by class, confusion, reliability, ranking, and how it trained."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vitask.reporting.figures import confusion_figure, density_figure, line_figure, reliability_figure
from vitask.reporting.study import MODES, RunRecord, Study
from vitask.reporting.tables import Metrics, Table, class_table, given_table, instruction_table, metrics_of, set_table

NO_LOSS = {"epoch", "lr", "grad_norm", "samples_per_second", "without_negative"}
VALIDATION = {"val_accuracy": "accuracy", "val_macro_f1": "macro-F1"}
BINS = 15


class Picture(NamedTuple):
    """One figure: SVG text, what stands below it, and whether it takes the whole width."""

    svg: str
    caption: str
    wide: bool = False


def row_tables(study: Study, row: str, evaluation: str) -> list[Table]:
    """Return the tables of a row: its data sets, if it has several, and the labels or instructions of each."""
    by_mode = _by_mode(study, row, evaluation)
    where = evaluation if len(study.evaluations) > 1 else ""
    tables = [set_table(_joined(row, where), by_mode)]
    for name, metrics in _by_set(by_mode):
        title = _joined(row, where, name)
        tables += [class_table(f"{title}: labels", metrics), given_table(f"{title}: labels given", metrics)]
    tables.append(instruction_table(f"{_joined(row, where)}: instructions", by_mode))
    return [table for table in tables if table is not None]


def row_pictures(study: Study, row: str, evaluation: str) -> Iterator[Picture]:
    """Yield the figures of a row's answers; those of several seeds are put together."""
    where = evaluation if len(study.evaluations) > 1 else ""
    for name, metrics in _by_set(_by_mode(study, row, evaluation)):
        for mode, several in metrics.items():
            if matrix := pooled_confusion(several):
                labels = several[0].get("labels") or [str(place) for place in range(len(matrix))]
                yield Picture(
                    confusion_figure(matrix, labels), _joined("Confusion", where, name, MODES.get(mode, mode)) + "."
                )
        bins = {MODES.get(mode, mode): found for mode, several in metrics.items() if (found := pooled_bins(several))}
        if bins:
            yield Picture(
                reliability_figure(bins), _joined("Reliability", where, name) + ": how often answers are right."
            )
        if pairs := pooled_pairs(metrics):
            said = ": how likely the response is behind its own image and behind another one."
            yield Picture(density_figure(pairs), _joined("Ranking", where, name) + said, len(pairs) > 1)


def training_pictures(runs: Sequence[RunRecord]) -> Iterator[Picture]:
    """Yield the losses and the learning rate of a row, stage after stage, as means over its seeds."""
    chains = [[*run.earlier, run] for run in runs if run.log]
    if not chains:
        return
    lines, boundaries = curves(chains)
    losses = {name: points for name, points in lines.items() if name not in NO_LOSS and not name.startswith("val_")}
    checks = {word: lines[name] for name, word in VALIDATION.items() if name in lines}
    rate = {"learning rate": lines["lr"]} if "lr" in lines else {}
    for shown, unit, caption in (
        (losses, "loss", "Losses: their weighted sum, and each part before it is weighted."),
        (checks, "validation", "On the validation split."),
        (rate, "learning rate", "Learning rate."),
    ):
        if shown:
            yield Picture(line_figure(shown, "step", unit, boundaries=boundaries), caption)


def curves(
    chains: Sequence[Sequence[RunRecord]],
) -> tuple[dict[str, tuple[list[float], list[float]]], list[tuple[float, str]]]:
    """Put the logs of stages one behind the other and average them over seeds.

    Args:
        chains: for each seed the runs of its stages, in order.

    Returns:
        By logged figure the steps and the means; and where each stage begins, if there are several.
    """
    found: dict[str, dict[float, list[float]]] = {}
    boundaries: dict[float, str] = {}
    for chain in chains:
        start = 0.0
        for run in chain:
            boundaries.setdefault(start, run.stage)
            for entry in run.log:
                for name, value in entry.items():
                    if name != "step" and isinstance(value, int | float):
                        found.setdefault(name, {}).setdefault(start + entry["step"], []).append(value)
            start += run.log[-1]["step"] if run.log else 0
    lines = {
        name: (sorted(points), [statistics.mean(points[step]) for step in sorted(points)])
        for name, points in found.items()
    }
    return lines, list(boundaries.items()) if len(boundaries) > 1 else []


def pooled_bins(metrics: Sequence[Metrics]) -> list[dict[str, float]]:
    """Put the reliability bins of several seeds together, by confidence."""
    bins: dict[int, list[Mapping[str, float]]] = {}
    for each in (each for several in metrics for each in several.get("reliability") or ()):
        if each["count"]:
            bins.setdefault(min(int(each["confidence"] * BINS), BINS - 1), []).append(each)
    return [_pooled(bins[place]) for place in sorted(bins)]


def pooled_confusion(metrics: Sequence[Metrics]) -> list[list[float]]:
    """Add the confusion matrices of several seeds; empty without any."""
    known = [each["confusion"] for each in metrics if each.get("confusion")]
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*known, strict=True)]


def pooled_pairs(by_mode: Mapping[str, Sequence[Metrics]]) -> dict[str, tuple[list[float], list[float]]]:
    """The pairs of every seed together, by mode."""
    found = {}
    for mode, several in by_mode.items():
        pairs = [each["pairs"] for each in several if each.get("pairs")]
        if pairs:
            right, wrong = ([p for each in pairs for p in each[key]] for key in ("positive", "negative"))
            found[MODES.get(mode, mode)] = (right, wrong)
    return found


def _pooled(bins: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total = sum(each["count"] for each in bins)
    means = {key: sum(each["count"] * each[key] for each in bins) / total for key in ("confidence", "accuracy")}
    return {**means, "count": total}


def _by_mode(study: Study, row: str, evaluation: str) -> dict[str, list[Metrics]]:
    found = {mode: metrics_of(study.select(evaluation, row, mode)) for mode in study.modes(evaluation)}
    return {mode: metrics for mode, metrics in found.items() if metrics}


def _by_set(by_mode: Mapping[str, Sequence[Metrics]]) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """The metrics of each data set of a mixture, or of the only one."""
    names = dict.fromkeys(name for several in by_mode.values() for each in several for name in each.get("sets", {}))
    if not names:
        yield "", dict(by_mode)
    for name in names:
        yield name, {mode: [each["sets"][name] for each in several] for mode, several in by_mode.items()}


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))
