"""The table of a grid: mean and spread over seeds, and paired differences from its reference rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vitask.reporting.table import markdown, number, spread

MODES = {"off": "w/o EP", "on": "w/ EP"}
METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1"}


def ablation_table(grid: Mapping[str, Any], results: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> str:
    """Lay out a grid as Markdown.

    Args:
        grid: title, conditions, reference rows.
        results: by seed and row, the evaluations of that run (one a mode).
    """
    seeds = list(results)
    rows = list(results[seeds[0]])
    first = results[seeds[0]][rows[0]][0]
    header = [
        f"{first['split']}, n = {first['samples']}",
        *(f"{m}, {n}" for m in MODES.values() for n in METRICS.values()),
    ]
    body = [_baseline("TSM", "tsm", results, rows), _baseline("majority class", "majority", results, rows)]
    body += [[row, *(spread_of(results, row, mode, key) for mode in MODES for key in METRICS)] for row in rows]
    conditions = [f"- {name}: {text}" for name, text in first["conditions"].items()]
    parts = [
        f"## {grid['title']}",
        f"Mean ± standard deviation over seeds {', '.join(seeds)}."
        + (" Conditions (of the first seed):" if conditions else ""),
        *(["\n".join(conditions)] if conditions else []),
        *([grid["conditions"]] if grid["conditions"] else []),
        markdown(header, body),
    ]
    for reference in grid["references"] if len(seeds) > 1 else ():
        parts += [f"Differences from {reference!r}, paired by seed:", _differences(reference, rows, results)]
    return "\n\n".join(parts)


def values(results: Mapping[str, Any], row: str, mode: str, key: str) -> list[float]:
    """Return one figure of a row and mode, a value a seed; empty if the row has no such mode."""
    return [e[key] for rows in results.values() for e in rows[row] if e["mode"] == mode]


def spread_of(results: Mapping[str, Any], row: str, mode: str, key: str) -> str:
    """Return mean and spread of a figure, a dash where there is none."""
    found = values(results, row, mode, key)
    return spread(found) if found else "-"


def paired_test(differences: Sequence[float]) -> float:
    """Return the two-sided p of a paired t-test; NaN when it is not defined."""
    from scipy.stats import ttest_1samp

    if len(differences) < 2 or len(set(differences)) == 1:
        return math.nan
    return float(ttest_1samp(differences, 0.0).pvalue)


def _baseline(name: str, key: str, results: Mapping[str, Any], rows: Sequence[str]) -> list[str]:
    """The TSM or the majority class: no VLM, so one pair of figures."""
    found = [next((e[key] for row in rows for e in by_row[row] if e[key]), None) for by_row in results.values()]
    found = [metrics for metrics in found if metrics]
    return [name, *(spread([m[metric] for m in found]) if found else "-" for metric in METRICS), "", ""]


def _differences(reference: str, rows: Sequence[str], results: Mapping[str, Any]) -> str:
    header = ["w/o EP", *(f"{name} {part}" for name in METRICS.values() for part in ("difference", "p"))]
    body = []
    for row in (row for row in rows if row != reference):
        cells = [row]
        for key in METRICS:
            base, own = values(results, reference, "off", key), values(results, row, "off", key)
            gains = [b - a for a, b in zip(base, own, strict=True)]
            cells += [f"{sum(gains) / len(gains):+.3f}", number(paired_test(gains))]
        body.append(cells)
    return markdown(header, body)
