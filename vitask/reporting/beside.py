"""One's own figures beside those that the paper reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitask.reporting.open_ended import is_open
from vitask.reporting.paper import MEDMNIST, TITLES, counterpart, method_of
from vitask.reporting.study import Estimate, Result, Study, estimate
from vitask.reporting.tables import NONE, Cell, Table, cell, place_name

FIGURES = {"accuracy": "accuracy", "macro-F1": "macro_f1"}


def paper_table(study: Study, evaluation: str) -> Table | None:
    """Put rows beside what the paper reports for the same method, mode and data set; none where it reports nothing."""
    rows = []
    for row, mode, found in study.places(evaluation):
        method = _method(study, row, found[0])
        for data, metrics in _by_data(found) if method else ():
            if (reported := counterpart(method, mode, data)) is None:
                continue
            source, theirs = reported
            cells = [Cell(source)]
            for key in FIGURES.values():
                own, their = estimate(metrics, key), getattr(theirs, key)
                cells += [cell(own), NONE if their is None else Cell(f"{their:.3f}"), difference(own, their)]
            rows.append((f"{place_name(row, mode)}, {TITLES.get(data, data)}", cells))
    if not rows:
        return None
    columns = [("", "source"), *((name, part) for name in FIGURES for part in ("here", "paper", "difference"))]
    note = "Differences say little where data, models or training differ; the deviations are listed below."
    return Table(f"Beside the paper: {evaluation}", "", columns, rows, note)


def difference(own: Estimate | None, theirs: float | None) -> Cell:
    """Show by how much one's own figure is above the paper's.

    Example:
        >>> difference(Estimate(0.85), 0.877).text
        '-0.027'
    """
    return NONE if own is None or theirs is None else Cell(f"{own.value - theirs:+.3f}")


def _method(study: Study, row: str, result: Result) -> str | None:
    """The paper's name of what a row does; none for what the paper does not do."""
    runs = study.runs.get(row)
    metrics = result.metrics
    if not runs or metrics.get("split") != "test" or metrics.get("contrast") or is_open(metrics):
        return None
    if result.mode == "tsm":
        return "TSM"
    exemplar = runs[0].config["exemplar"]
    method = method_of(runs[0].weights)
    usual = exemplar["features"] == "cls" and exemplar["position"] != "replace_image"
    if not usual and method != "vanilla":
        return None
    return "VITask-plug" if result.plugged and method == "VITask" else method


def _by_data(found: Sequence[Result]) -> Iterator[tuple[str, list[Mapping[str, Any] | None]]]:
    """The metrics of each data set; those of all of the paper's sets have their mean as well."""
    metrics = [result.metrics for result in found]
    sets = list(metrics[0].get("sets", {}))
    for name in sets:
        yield name, [each.get("sets", {}).get(name) for each in metrics]
    if not sets or set(sets) == set(MEDMNIST):
        yield "medmnist12" if sets else found[0].data, metrics
