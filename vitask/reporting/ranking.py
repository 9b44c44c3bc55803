"""The table of ranked images: how often a response is likelier behind its own image than behind another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitask.reporting.table import MODES, markdown, number

COLUMNS = {
    "pairs_right": "ranked right",
    "auc": "AUC",
    "positive_mean": "p, own image",
    "negative_mean": "p, other image",
    "gap": "gap",
}


def ranking_table(results: Sequence[Mapping[str, Any]]) -> str | None:
    """Show the figures of every mode in which images were ranked; nothing if there is none."""
    rows = [
        [MODES[metrics["mode"]], *(number(metrics["ranking"].get(key)) for key in COLUMNS)]
        for metrics in results
        if metrics.get("ranking")
    ]
    return markdown(["pairs of images", *COLUMNS.values()], rows) if rows else None
