"""What training cost, in units that people read."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vitask.reporting.paper import method_of
from vitask.reporting.study import RunRecord, Study, figure_of
from vitask.reporting.tables import NONE, Cell, Table


def duration(seconds: float) -> str:
    """Show a time.

    Example:
        >>> duration(7.61), duration(3700)
        ('7.6 s', '1 h 02 min')
    """
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def large(number: float) -> str:
    """Show a large number.

    Example:
        >>> large(34816), large(2.2e9)
        ('34.8 k', '2.2 G')
    """
    return _scaled(number, 1000, ("", " k", " M", " G", " T", " P"))


def memory(number: float) -> str:
    """Show bytes.

    Example:
        >>> memory(3 * 2**30)
        '3.0 GiB'
    """
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


UNITS = {
    "seconds": ("time", duration),
    "peak_memory_bytes": ("peak memory", memory),
    "flops": ("FLOP", large),
    "trained_parameters": ("trained", large),
    "total_parameters": ("parameters", large),
}
SUMMED = ("seconds", "flops")


def cost_table(study: Study) -> Table | None:
    """Lay out what training cost, earlier stages included, and how many times that of plain tuning."""
    costs = {row: [cost for run in runs if (cost := total_cost(run))] for row, runs in study.runs.items()}
    costs = {row: found for row, found in costs.items() if found}
    if not costs:
        return None
    plain = next((row for row in costs if method_of(study.runs[row][0].weights) == "vanilla"), None)
    tsms = {run.tsm: _known([run.tsm_cost]) for runs in study.runs.values() for run in runs if run.tsm_cost}
    rows = [
        (row, [_cell(found, costs.get(plain), key, compared=row != plain and study.runs[row][0].stage != "tsm")
               for key in UNITS])
        for row, found in costs.items()
    ]  # fmt: skip
    if tsms and not any(run.stage == "tsm" for runs in study.runs.values() for run in runs):
        rows.insert(0, ("TSM", [_cell(list(tsms.values()), None, key, compared=False) for key in UNITS]))
    note = "Stages that a row starts from are included, its TSM is not: it is trained once for all rows."
    note += f" ×: times what “{plain}” took." if plain else ""
    return Table(f"Cost: {study.title}", "mean over seeds", [("", name) for name, _ in UNITS.values()], rows, note)


def total_cost(run: RunRecord) -> dict[str, float]:
    """Add up time and FLOP of a run and of the stages that it starts from; of memory and parameters take the largest.

    What one of them does not know is left out.
    """
    return _known([each.summary.get("cost") for each in (*run.earlier, run)])


def _known(costs: Sequence[Mapping[str, Any] | None]) -> dict[str, float]:
    """Put the costs of stages together, without what one of them does not know."""
    known = {key: [figure_of(cost, key) for cost in costs] for key in UNITS}
    return {key: sum(values) if key in SUMMED else max(values) for key, values in known.items() if None not in values}


def _cell(
    found: Sequence[Mapping[str, float]], plain: Sequence[Mapping[str, float]] | None, key: str, *, compared: bool
) -> Cell:
    own, base = _mean(found, key), _mean(plain or (), key)
    if own is None:
        return NONE
    return Cell(UNITS[key][1](own), f"{own / base:.2f} ×" if base and compared else "")


def _mean(costs: Sequence[Mapping[str, float]], key: str) -> float | None:
    values = [cost[key] for cost in costs if key in cost]
    return statistics.mean(values) if values else None


def _scaled(number: float, base: int, units: Sequence[str]) -> str:
    place = 0
    while number >= base and place < len(units) - 1:
        number, place = number / base, place + 1
    return f"{number:.1f}{units[place]}" if place else f"{number:.0f}{units[0]}"
