"""One's own figures beside those that the paper reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitask.reporting.open_ended import is_open
from vitask.reporting.paper import MEDMNIST, TABLES, TITLES, Reported, method_of, reported_for
from vitask.reporting.rules import DATA, OTHER_METHOD, RDA, VLM, broken
from vitask.reporting.study import Estimate, Result, RunRecord, Study, baselines, estimate
from vitask.reporting.tables import NONE, Cell, Table, cell, place_name

FIGURES = {"accuracy": "accuracy", "macro-F1": "macro_f1"}


def paper_table(study: Study, evaluation: str) -> Table | None:
    """Put rows beside what the paper reports for the same method, mode and data set; none where it reports nothing.

    A row of a grid that repeats a table or figure of the paper stands beside the row of its name.
    """
    own = TABLES.get((study.grid or {}).get("grid", {}).get("paper") or "")
    places = [(row, mode, found, _names(study, row, found[0])) for row, mode, found in study.places(evaluation)]
    rows = []
    for row, mode, found, names in places:
        for data, metrics in _by_data([result.metrics for result in found], found[0].data):
            rows += _line(place_name(row, mode), data, metrics, reported_for(own, names, mode, data))
    first = next(iter(study.select(evaluation)))
    for name, known in baselines(study, evaluation) if _comparable(first) else ():
        for data, metrics in _by_data(known, first.data) if name == "TSM" else ():
            rows += _line(name, data, metrics, reported_for(own, ["TSM"], "tsm", data))
    if not rows:
        return None
    columns = [("", "source"), *((name, part) for name in FIGURES for part in ("here", "paper", "difference"))]
    note = "Differences say little where data, models or training differ; the deviations are listed below."
    return Table(f"Beside the paper: {evaluation}", "", columns, rows, note)


def _line(
    name: str, data: str, metrics: Sequence[Mapping[str, Any] | None], reported: tuple[str, Reported] | None
) -> Iterator[tuple[str, list[Cell]]]:
    if reported is not None:
        source, theirs = reported
        cells = [Cell(source)]
        for key in FIGURES.values():
            own, their = estimate(metrics, key), getattr(theirs, key)
            cells += [cell(own), NONE if their is None else Cell(f"{their:.3f}"), difference(own, their)]
        yield f"{name}, {TITLES.get(data, data)}", cells


def difference(own: Estimate | None, theirs: float | None) -> Cell:
    """Show by how much one's own figure is above the paper's.

    Example:
        >>> difference(Estimate(0.85), 0.877).text
        '-0.027'
    """
    return NONE if own is None or theirs is None else Cell(f"{own.value - theirs:+.3f}")


def _names(study: Study, row: str, result: Result) -> list[str]:
    """What the paper may call a row: by its own name, and by what it does."""
    if not _comparable(result):
        return []
    if result.mode == "tsm":
        return ["TSM"]
    names = [row, *filter(None, [_method(study.runs.get(row))])]
    return [f"{name}-plug" for name in names] if result.plugged else names


def _comparable(result: Result) -> bool:
    metrics = result.metrics
    other = {"exemplars", "exemplar content"} & metrics.get(
        "conditions", {}
    ).keys()  # asked of the evaluation alone, too
    return metrics.get("split") == "test" and not metrics.get("contrast") and not is_open(metrics) and not other


def _method(runs: Sequence[RunRecord] | None) -> str | None:
    """The paper's name of what runs do; none for what the paper's tables do not have."""
    if not runs:
        return None
    config, weights = runs[0].config, runs[0].weights
    method = method_of(weights)
    has = {term for term, weight in weights.items() if weight}
    has |= {"exemplar"} if method != "vanilla" else set()
    replaces = "exemplar" in has and config["exemplar"]["position"] == "replace_image"
    rules = [rule for rule in (*DATA, *VLM, *RDA) if rule.key in OTHER_METHOD]
    return None if replaces or any(broken(rules, config, has)) else method


def _by_data(metrics: Sequence[Mapping[str, Any]], data: str) -> Iterator[tuple[str, list[Mapping[str, Any] | None]]]:
    """The metrics of each data set; those of all of the paper's sets have their mean as well."""
    sets = list(metrics[0].get("sets", {}))
    for name in sets:
        yield name, [each.get("sets", {}).get(name) for each in metrics]
    if not sets or set(sets) == set(MEDMNIST):
        yield "medmnist12" if sets else data, list(metrics)
