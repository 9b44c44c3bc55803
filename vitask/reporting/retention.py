"""The table of a probe: what a VLM could do before tuning, and what it can do after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitask.reporting.table import markdown, number

STATES = {"untuned": "before tuning", "tuned": "after tuning", "difference": "difference"}


def probe_table(metrics: Mapping[str, Any]) -> str:
    """Show perplexity and exact match on a probe before and after tuning.

    Args:
        metrics: what `vitask evaluate probe=...` wrote.
    """
    header = [f"probe {metrics['probe']}, n = {metrics['samples']}", "perplexity", "exact match"]
    rows = [
        [text, number(metrics[state]["perplexity"]), number(metrics[state]["exact_match"])]
        for state, text in STATES.items()
    ]
    return markdown(header, rows)
