"""Differences between the rows of a grid, paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitask.reporting.effects import EXPECTED, interval, paired_gains, paired_test, signed, verdict
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
    if effects := grid.get("effects"):
        yield _effects(effects, found)


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


def _effects(effects: Mapping[str, Mapping[str, Any]], found: GridResults) -> Table:
    lines = []
    for name, effect in effects.items():
        gains = paired_gains(found, effect["of"], effect["over"], effect["metric"])
        mean, p = statistics.mean(gains) if gains else math.nan, paired_test(gains)
        low, high = interval(gains)
        spread = "" if math.isnan(low) else f"[{signed(low)}, {signed(high)}]"
        said = [EXPECTED[effect["expected"]], verdict(mean, p, effect["expected"])]
        cells = [Cell(effect["metric"]), Cell(signed(mean), spread), Cell(number(p)), *map(Cell, said)]
        lines.append((name, cells))
    columns = [("", name) for name in ("figure", "difference", "p", "paper", "here")]
    return Table("Effects", "", columns, lines, "Paired by seed; in brackets the 95 % interval.")
