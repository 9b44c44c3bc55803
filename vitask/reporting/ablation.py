"""The table and the figure of a grid: mean and spread over seeds, paired differences, effects."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vitask.reporting.effects import effects_table, paired_test
from vitask.reporting.grid import EVALUATION, GridResults
from vitask.reporting.open_ended import is_open
from vitask.reporting.table import markdown, number, spread

MODES = {"untuned": "before tuning", "off": "w/o EP", "on": "w/ EP", "tsm": "TSM"}
COLUMNS = {"accuracy": "accuracy", "macro-F1": "macro_f1"}
WORDS = {"exact match": "exact_match", "ranked first": "rank_accuracy", "perplexity": "perplexity"}
"""What answers in words have instead."""


def ablation_table(grid: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Lay out a grid as Markdown: its figures, their differences from the reference rows, its effects.

    Args:
        grid: title, conditions, references, layout, columns, effects.
        results: by seed and row, the metrics of that run.
    """
    found, parts = GridResults(results), [f"## {grid['title']}", figures_table(grid, results)]
    if len(found.seeds) > 1:
        for reference in grid["references"]:
            columns = _columns(grid, found)
            parts += [f"Differences from {reference!r}, paired by seed:", _differences(reference, found, columns)]
        if grid.get("effects"):
            parts += ["Effects, paired by seed:", effects_table(grid, found)]
    return "\n\n".join(parts)


def figures_table(grid: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Lay out the figures of a grid as Markdown, and under what conditions they were measured (`ablation_table`)."""
    found = GridResults(results)
    conditions = [f"- {name}: {text}" for name, text in found.conditions.items()]
    layout = LAYOUTS["rows" if grid.get("layout") == "sets" and not found.sets else grid.get("layout", "rows")]
    parts = [
        f"Mean ± standard deviation over seeds {', '.join(found.seeds)}."
        + (" Conditions (of the first seed):" if conditions else ""),
        "\n".join(conditions),
        grid["conditions"],
        layout(found, _columns(grid, found)),
    ]
    return "\n\n".join(part for part in parts if part)


def ablation_figure(grid: Mapping[str, Any], results: Mapping[str, Any]) -> str | None:
    """Draw the figure of a grid as SVG, if it has one.

    Args:
        grid: `figure` (bars, radar, densities or none) and `shown`, what it shows: label to place.
        results: as in `ablation_table`.
    """
    from vitask.reporting.figures import bar_figure, density_figure, radar_figure

    found, kind = GridResults(results), grid.get("figure", "none")
    columns, shown = _columns(grid, found), grid.get("shown") or {}
    if kind == "bars":
        groups = {
            header: {label: _mean_and_spread(found.values(place, key).values()) for label, place in shown.items()}
            for header, key in columns.items()
        }
        return bar_figure(groups, ylabel="")
    if kind == "radar" and found.sets:
        key = next(iter(columns.values()))
        return radar_figure({label: _by_axis(found, place, key) for label, place in shown.items()})
    if kind == "densities":
        return density_figure({label: found.densities(place) for label, place in shown.items()})
    return None


def _columns(grid: Mapping[str, Any], found: GridResults) -> Mapping[str, str]:
    """The figures that a grid shows: those that it names, or the usual ones that were measured."""
    named = grid.get("columns") or COLUMNS
    if not is_open(found.first) or any(map(found.has, named.values())):
        return named
    return {name: key for name, key in WORDS.items() if found.has(key)}


def _mean_and_spread(values: Any) -> tuple[float, float | None]:
    values = list(values)
    if not values:
        return math.nan, None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def _by_axis(found: GridResults, place: Sequence[str], key: str) -> dict[str, float]:
    values = {name: list(found.values(place, key, of_set=name).values()) for name in found.sets}
    return {name: statistics.mean(each) if each else math.nan for name, each in values.items()}


def _by_row(found: GridResults, columns: Mapping[str, str]) -> str:
    """A row a row, a TSM and majority class that all rows share first; a column an evaluation, mode and figure."""
    places = [(evaluation, mode) for evaluation, mode in found.places if mode != "tsm"] or found.places
    cells = [(evaluation, mode, name, key) for evaluation, mode in places for name, key in columns.items()]
    filled = [
        (evaluation, mode, name, key)
        for evaluation, mode, name, key in cells
        if any(found.values([row, mode, evaluation], key) for row in found.rows)
    ]
    header = [
        f"{found.first['split']}, n = {found.first['samples']}",
        *(f"{'' if e == EVALUATION else f'{e}: '}{MODES[mode]}, {name}" for e, mode, name, _ in filled),
    ]
    own = {evaluation: next(mode for e, mode in places if e == evaluation) for evaluation, _ in places}
    body = []
    guess = "commonest response" if is_open(found.first) else "majority class"
    for title, baseline in (("TSM", "tsm"), (guess, "majority")) if found.same_data else ():
        line = [
            _spread(found.baseline(baseline, key, evaluation)) if own[evaluation] == mode else ""
            for evaluation, mode, _, key in filled
        ]
        body += [[title, *line]] if any(cell not in ("", "-") for cell in line) else []
    for row in found.rows:
        body.append([row, *(_spread(found.values([row, mode, e], key).values()) for e, mode, _, key in filled)])
    return markdown(header, body)


def _by_set(found: GridResults, columns: Mapping[str, str]) -> str:
    """A row a data set and their mean, as in the paper's Table 1; a column a grid row, mode and figure."""
    places = [(row, mode) for row in found.rows for e, mode in found.places if e == EVALUATION and mode != "tsm"]
    places = [place for place in places if found.values(place, next(iter(columns.values())))]
    header = [found.first["split"], *(f"TSM, {name}" for name in columns)]
    header += [f"{row} {MODES[mode]}, {name}" for row, mode in places for name in columns]
    body = []
    for title, name in [*((name, name) for name in found.sets), ("mean", None)]:
        line = [title, *(_spread(found.baseline("tsm", key, of_set=name)) for key in columns.values())]
        line += [
            _spread(found.values(place, key, of_set=name).values()) for place in places for key in columns.values()
        ]
        body.append(line)
    return markdown(header, body)


def _by_evaluation(found: GridResults, columns: Mapping[str, str]) -> str:
    """A row an evaluation, as in the paper's Table 3; first the TSM that is used there."""
    places = [(row, mode) for row in found.rows for mode in ("untuned", "off", "on")]
    filled = [
        (row, mode, name, key)
        for row, mode in places
        for name, key in columns.items()
        if any(found.values([row, mode, evaluation], key) for evaluation in found.evaluations)
    ]
    header = [f"{found.first['split']}, n = {found.first['samples']}", *(f"TSM, {name}" for name in columns)]
    header += [f"{row} {MODES[mode]}, {name}" for row, mode, name, _ in filled]
    body = [
        [
            evaluation,
            *(_spread(found.baseline("tsm", key, evaluation)) for key in columns.values()),
            *(_spread(found.values([row, mode, evaluation], key).values()) for row, mode, _, key in filled),
        ]
        for evaluation in found.evaluations
    ]
    return markdown(header, body)


LAYOUTS = {"rows": _by_row, "sets": _by_set, "evaluations": _by_evaluation}


def _spread(values: Any) -> str:
    values = list(values)
    return spread(values) if values else "-"


def _differences(reference: str, found: GridResults, columns: Mapping[str, str]) -> str:
    """How much better or worse than a reference the VLM without the exemplar is."""
    header = ["w/o EP", *(f"{name} {part}" for name in columns for part in ("difference", "p"))]
    body = []
    for row in (row for row in found.rows if row != reference):
        cells = [row]
        for key in columns.values():
            base, own = found.values([reference], key), found.values([row], key)
            gains = [own[seed] - base[seed] for seed in found.seeds if seed in own and seed in base]
            cells += [f"{statistics.mean(gains):+.3f}" if gains else "-", number(paired_test(gains))]
        body.append(cells)
    return markdown(header, body)
