"""A page of results: what several grids show together, effect by effect, then their figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vitask.reporting.ablation import figures_table
from vitask.reporting.comparison import holm
from vitask.reporting.effects import LEVEL, Effect, effects_of, signed
from vitask.reporting.grid import GridResults
from vitask.reporting.table import markdown, number

HEADER = ["effect", "grid", "figure", "difference", "95 % interval", "p", "p, Holm", "paper", "here"]
PLACES = ("out=", "cache=", "data.root=")
"""Overrides that say where things are on one machine."""


def results_page(grids: Mapping[str, Mapping[str, Any]], introduction: str) -> str:
    """Write up several grids as Markdown.

    Args:
        grids: by name, what `results.json` holds.
        introduction: how they were made.

    Returns:
        What holds of the paper, what the controls say, and every grid's figures below the command that gives them.
    """
    effects = [
        (name, effect)
        for name, found in grids.items()
        for effect in effects_of(found["grid"], GridResults(found["results"]))
        if not math.isnan(effect.p)
    ]
    papers = _once([(name, effect) for name, effect in effects if effect.expected != "none"])
    others = _once([(name, effect) for name, effect in effects if effect.expected == "none"])
    parts = [
        "# Results",
        introduction,
        "Differences are paired by seed; intervals and p are those of paired t-tests, the second p is corrected for "
        "all tests of its table (Holm). The paper's figure is its mean difference over data sets, where it gives one. "
        f"An effect holds here if its sign is the expected one and p is below {LEVEL}.",
        "## What holds of the paper",
        _in_words(papers),
        _table(papers),
        "## What the controls and our own terms show",
        _table(others),
        *(_grid(name, found) for name, found in grids.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _once(effects: Sequence[tuple[str, Effect]]) -> list[tuple[str, Effect]]:
    """Leave out effects that another grid has under the same name from the same runs."""
    found: dict[tuple[Any, ...], tuple[str, Effect]] = {}
    for name, effect in effects:
        found.setdefault((effect.name, effect.metric, *effect.gains), (name, effect))
    return list(found.values())


def _in_words(effects: Sequence[tuple[str, Effect]]) -> str:
    """Say how many effects hold, and name those that do not."""
    corrected = holm([effect.p for _, effect in effects])
    holds = [effect.here == "holds" for _, effect in effects]
    surely = sum(held and p < LEVEL for held, p in zip(holds, corrected, strict=True))
    lines = [f"Of {len(effects)} effects {sum(holds)} hold, {surely} of them after correction."]
    for verdict in ("not shown", "the opposite"):
        if names := [f"{effect.name} ({name})" for name, effect in effects if effect.here == verdict]:
            lines.append(f"{verdict.capitalize()}: {'; '.join(names)}.")
    return " ".join(lines)


def _table(effects: Sequence[tuple[str, Effect]]) -> str:
    corrected = holm([effect.p for _, effect in effects])
    body = [
        [e.name, name, e.metric, signed(e.mean), " to ".join(map(signed, e.interval)), number(e.p), number(p),
         e.in_paper, e.here]
        for (name, e), p in zip(effects, corrected, strict=True)
    ]  # fmt: skip
    return markdown(HEADER, body)


def _grid(name: str, found: Mapping[str, Any]) -> str:
    seeds = ",".join(found["results"])
    overrides = [
        f"{text.partition(chr(61))[0]}=..." if text.startswith(PLACES) else text for text in found["overrides"]
    ]
    command = " ".join(["vitask ablate", name, f"seeds=[{seeds}]", *overrides])
    return f"## {found['grid']['title']}\n\n`{command}`\n\n{figures_table(found['grid'], found['results'])}"
