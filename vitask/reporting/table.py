"""Plain-text and Markdown tables of results; imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

MODES = {"off": "VLM without exemplar", "on": "VLM with exemplar", "tsm": "TSM"}
COLUMNS = ("accuracy", "macro_f1", "auc")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table that reads well both in a terminal and as Markdown; the first column is aligned left.

    Example:
        >>> print(markdown(["who", "n"], [["a|b", "1"]]))
        | who  | n |
        |------|--:|
        | a\\|b | 1 |
    """
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(_aligned(row, widths)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def evaluation_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Show the evaluations of one run, the TSM's and the majority class's figures in the same table."""
    first = results[0]
    if "sets" in first:
        return sets_table(results)
    rows = [[MODES[r["mode"]], *figures(r), *_generated(r.get("generated"))] for r in results]
    if first["tsm"] and first["mode"] != "tsm":
        rows.append(["TSM", *figures(first["tsm"]), *_generated(None)])
    rows.append(["majority class", *figures(first["majority"]), *_generated(None)])
    header = [f"{first['split']}, n = {first['samples']}", "accuracy", "macro-F1", "AUC", "generated acc.", "no label"]
    conditions = [f"{name}: {text}" for name, text in first["conditions"].items()]
    return "\n".join([markdown(header, rows), *conditions])


def sets_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Show the evaluations of a run over several data sets: a row a set and their mean, as the paper's Table 1."""
    first = results[0]
    header = [first["split"], "n", *(f"{n}, {m}" for m in ("majority class", "TSM") for n in ("accuracy", "macro-F1"))]
    header += [f"{n}, {MODES[r['mode']]}" for r in results if r["mode"] != "tsm" for n in ("accuracy", "macro-F1")]
    rows = [_set_row(name, [r["sets"][name] for r in results]) for name in first["sets"]]
    conditions = [f"{name}: {text}" for name, text in first["conditions"].items()]
    return "\n".join([markdown(header, [*rows, _set_row("mean", results)]), *conditions])


def _set_row(name: str, results: Sequence[Mapping[str, Any]]) -> list[str]:
    known = {"majority": results[0]["majority"], "tsm": next((r["tsm"] for r in results if r.get("tsm")), None)}
    shown = [known["majority"], known["tsm"] or {}, *(r for r in results if r["mode"] != "tsm")]
    figures_shown = [number(metrics.get(key)) for metrics in shown for key in ("accuracy", "macro_f1")]
    return [name, str(results[0]["samples"]), *figures_shown]


def figures(metrics: Mapping[str, float]) -> list[str]:
    """Return accuracy, macro-F1 and AUC as text, a dash for what is missing."""
    return [number(metrics.get(name)) for name in COLUMNS]


def number(value: float | None) -> str:
    """Return a figure with three decimals, a dash for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation over seeds."""
    if len(values) == 1:
        return number(values[0])
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _generated(metrics: Mapping[str, float] | None) -> list[str]:
    return ["-", "-"] if metrics is None else [number(metrics["accuracy"]), f"{metrics['invalid_rate']:.1%}"]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
