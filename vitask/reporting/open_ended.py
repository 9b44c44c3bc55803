"""The figures of an open-ended run: free answers, and the right response among others; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitask.reporting.table import MODES, markdown, number

GENERATED = {"exact_match": "exact match (95 % interval)", "token_f1": "token F1"}
READ = {"rank_accuracy": "ranked first (95 % interval)", "mrr": "MRR", "perplexity": "perplexity"}
MOST_INSTRUCTIONS = 8


def is_open(metrics: Mapping[str, Any]) -> bool:
    """Say whether figures are those of answers in words."""
    return "by_instruction" in metrics


def flattened(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of answers in words with those of free answers beside the others, as a report looks them up.

    Example:
        >>> flattened({"by_instruction": {}, "generated": {"exact_match": 0.5, "intervals": {}}})["exact_match"]
        0.5
    """
    free = metrics.get("generated") or {}
    rest = {key: value for key, value in metrics.items() if key != "generated"}
    return {**rest, **free, "intervals": {**metrics.get("intervals", {}), **free.get("intervals", {})}}


def open_ended_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Show the evaluations of one open-ended run beside the commonest response, then each instruction alone."""
    first = results[0]
    header = [f"{first['split']}, n = {_counted(first)}", *GENERATED.values(), *READ.values()]
    rows = [[MODES[r["mode"]], *_figures(r.get("generated") or {}, GENERATED), *_figures(r, READ)] for r in results]
    rows.append(["commonest response", *_figures(first["majority"], GENERATED), *["-"] * len(READ)])
    tables = [markdown(header, rows), _ranking_note(first)]
    if len(first["by_instruction"]) > 1:
        tables += ["", _by_instruction(results[-1])]
    notes = {title: text for r in results for title, text in r["conditions"].items()}
    return "\n".join([*tables, *(f"{title}: {text}" for title, text in notes.items())])


def _counted(metrics: Mapping[str, Any]) -> str:
    """Count questions and the images that they are about, over which the intervals are; older figures lack these."""
    counts = {"question": metrics["samples"], "image": metrics.get("images")}
    return ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items() if count is not None)


def _figures(metrics: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """Each figure as text, the first with its interval; a dash for what is missing."""
    cells = [number(metrics.get(name)) for name in columns]
    low, high = metrics.get("intervals", {}).get(next(iter(columns)), (None, None))
    if low is not None and high is not None:
        cells[0] += f" [{number(low)}, {number(high)}]"
    return cells


def _ranking_note(metrics: Mapping[str, Any]) -> str:
    if not metrics["ranked"]:
        return "ranking: no instruction has two different responses in this split"
    left_out = metrics["samples"] - metrics["ranked"]
    more = f"; {left_out} samples without one are left out" if left_out else ""
    return (
        f"ranking: among up to {metrics['rivals']} other responses to the same instruction; "
        f"chance {metrics['chance']:.3f}{more}"
    )


def _by_instruction(metrics: Mapping[str, Any]) -> str:
    columns = {"exact_match": "exact match", "token_f1": "token F1", "rank_accuracy": "ranked first"}
    asked = list(metrics["by_instruction"].items())
    rows = [
        [instruction, str(own["samples"]), *(number(own.get(name)) for name in columns)]
        for instruction, own in asked[:MOST_INSTRUCTIONS]
    ]
    more = f" (of {len(asked)}, the rest in metrics.json)" if len(asked) > MOST_INSTRUCTIONS else ""
    return markdown([f"{MODES[metrics['mode']]}, by instruction{more}", "n", *columns.values()], rows)
