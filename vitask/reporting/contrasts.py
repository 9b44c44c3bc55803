"""Differences between the rows of a grid, paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitask.reporting.effects import effects_of, interval, paired_gains, paired_test, signed
from vitask.reporting.grid import GridResults
from vitask.reporting.study import Study
from vitask.reporting.table import number
from vitask.reporting.tables import Cell, Table

FIGURES = {"accuracy": "accuracy", "macro-F1": "macro_f1"}


def contrast_tables(study: Study) -> Iterator[Table]:
    """Yield a grid's differences from its reference rows and its effects; nothing for one seed, or without a grid."""
    if study.grid is None or len(study.grid["results"]) < 2:
        return
    grid, found = study.grid["grid"], GridResults(study.grid["results"])
    for reference in grid.get("references") or ():
        rows = [row for row in found.rows if row != reference and found.values([row], "accuracy")]
        if rows and found.values([reference], "accuracy"):
            yield _from_reference(reference, rows, found)
    if grid.get("effects"):
        yield _effects(grid, found)


def _from_reference(reference: str, rows: Sequence[str], found: GridResults) -> Table:
    lines = []
    for row in rows:
        cells = []
        for key in FIGURES.values():
            gains = paired_gains(found, [row], [reference], key)
            low, high = interval(gains)
            mean = statistics.mean(gains) if gains else math.nan
            spread = "" if math.isnan(low) else f"[{signed(low)}, {signed(high)}]"
            cells += [Cell(signed(mean), spread), Cell(number(paired_test(gains)))]
        lines.append((row, cells))
    columns = [(name, part) for name in FIGURES for part in ("difference", "p")]
    note = (
        "Paired by seed; in brackets the 95 % interval, p of a two-sided paired t-test, not corrected for their number."
    )
    return Table(f"Differences from “{reference}”, w/o EP", "", columns, lines, note)


def _effects(grid: Mapping[str, Any], found: GridResults) -> Table:
    lines = []
    for effect in effects_of(grid, found):
        low, high = effect.interval
        spread = "" if math.isnan(low) else f"[{signed(low)}, {signed(high)}]"
        cells = [Cell(effect.metric), Cell(signed(effect.mean), spread), Cell(number(effect.p))]
        lines.append((effect.name, [*cells, Cell(effect.in_paper), Cell(effect.here)]))
    columns = [("", name) for name in ("figure", "difference", "p", "paper", "here")]
    note = "Paired by seed; in brackets the 95 % interval. Of the paper: the mean difference over its data sets."
    return Table("Effects", "", columns, lines, note)
