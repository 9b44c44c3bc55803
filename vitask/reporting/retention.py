"""The tables of a probe: what a VLM could do before tuning, and what it can do after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitask.reporting.study import Study, estimate
from vitask.reporting.table import markdown, number
from vitask.reporting.tables import Table, cell

STATES = {"untuned": "before tuning", "tuned": "after tuning", "difference": "difference"}
FIGURES = {"perplexity": "perplexity", "exact match": "exact_match"}


def probe_table(metrics: Mapping[str, Any]) -> str:
    """Show perplexity and exact match on a probe before and after tuning, as Markdown.

    Args:
        metrics: what `vitask evaluate probe=...` wrote.
    """
    header = [f"probe {metrics['probe']}, n = {metrics['samples']}", *FIGURES]
    rows = [[text, *(number(metrics[state][key]) for key in FIGURES.values())] for state, text in STATES.items()]
    return markdown(header, rows)


def retention_tables(study: Study) -> list[Table]:
    """Lay out every probe that runs of a study were asked: a line a row, its figures before and after tuning."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row, runs in study.runs.items():
        for metrics in (probe for run in runs for probe in run.probes):
            found.setdefault(metrics["probe"], {}).setdefault(row, []).append(metrics)
    columns = [(text, name, f"{state}.{key}") for state, text in STATES.items() for name, key in FIGURES.items()]
    return [
        Table(
            f"Retention: {name}",
            f"n = {next(iter(rows.values()))[0]['samples']}",
            [(state, figure) for state, figure, _ in columns],
            [(row, [cell(estimate(metrics, key)) for _, _, key in columns]) for row, metrics in rows.items()],
            "What the VLM without exemplar answers to prompts that tuning was not about.",
        )
        for name, rows in found.items()
    ]


def by_mode(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of a probe as a grid reads them: two evaluations, in the modes `untuned` and `off`.

    Example:
        >>> found = {"probe": "own", "untuned": {"perplexity": 2.0}, "tuned": {"perplexity": 3.0}}
        >>> [(each["mode"], each["perplexity"]) for each in by_mode(found)]
        [('untuned', 2.0), ('off', 3.0)]
    """
    shared = {key: value for key, value in metrics.items() if key not in STATES}
    return [{**shared, "mode": mode, **metrics[state]} for state, mode in (("untuned", "untuned"), ("tuned", "off"))]
