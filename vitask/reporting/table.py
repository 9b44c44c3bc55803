"""Plain-text and Markdown tables of results; imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

MODES = {"off": "VLM without exemplar", "on": "VLM with exemplar", "untuned": "VLM before tuning", "tsm": "TSM"}
AVERAGED = {"off": "averaged, without exemplar", "on": "averaged, with exemplar", "untuned": "averaged, before tuning"}
SHORT = {"off": "w/o EP", "on": "w/ EP", "untuned": "untuned"}
COLUMNS = {"balanced_accuracy": "balanced", "macro_f1": "macro-F1", "auc": "AUC", "ece": "ECE"}
"""Figures beside the accuracy and its interval."""


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
    """Show the evaluations of one run, and in the same table what they are measured by.

    That is the TSM, the mean of the TSM's and the VLM's label probabilities, and the majority class.
    """
    first = results[0]
    if "sets" in first:
        return sets_table(results)
    rows = {MODES[r["mode"]]: r for r in results}
    if first["mode"] != "tsm":
        rows |= {"TSM": first["tsm"], **{AVERAGED[r["mode"]]: r.get("averaged") for r in results}}
    rows["majority class"] = first["majority"]
    texts = any("generated" in r for r in results)
    header = [f"{first['split']}, n = {first['samples']}", "accuracy (95 % interval)", *COLUMNS.values()]
    body = [[name, *figures(r), *(_generated(r.get("generated")) if texts else [])] for name, r in rows.items() if r]
    table = markdown([*header, *(["generated", "no label"] if texts else [])], body)
    return "\n".join([table, *_conditions(results)])


def sets_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Show the evaluations of a run over several data sets: a row a set and their mean, as the paper's Table 1."""
    first = results[0]
    names = ["TSM", *(SHORT[r["mode"]] for r in results if r["mode"] != "tsm")]
    header = [first["split"], "n", "majority acc.", *(f"{name} {part}" for name in names for part in ("acc.", "F1"))]
    rows = [_set_row(name, [r["sets"][name] for r in results]) for name in first["sets"]]
    return "\n".join([markdown(header, [*rows, _set_row("mean", results)]), *_conditions(results)])


def _conditions(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is to be known beside the figures of any mode, a line each."""
    together = {name: text for result in results for name, text in result["conditions"].items()}
    return [f"{name}: {text}" for name, text in together.items()]


def _set_row(name: str, results: Sequence[Mapping[str, Any]]) -> list[str]:
    tsm = next((r["tsm"] for r in results if r.get("tsm")), {})
    shown = [tsm, *(r for r in results if r["mode"] != "tsm")]
    cells = [number(metrics.get(key)) for metrics in shown for key in ("accuracy", "macro_f1")]
    return [name, str(results[0]["samples"]), number(results[0]["majority"]["accuracy"]), *cells]


def figures(metrics: Mapping[str, Any]) -> list[str]:
    """Return accuracy with its interval, then the other figures as text, a dash for what is missing."""
    low, high = metrics.get("intervals", {}).get("accuracy", (None, None))
    accuracy = number(metrics.get("accuracy"))
    if low is not None and high is not None:
        accuracy += f" [{number(low)}, {number(high)}]"
    return [accuracy, *(number(metrics.get(name)) for name in COLUMNS)]


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
