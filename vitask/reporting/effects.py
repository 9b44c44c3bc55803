"""Which effects a grid shows: differences paired by seed, their intervals, and what the paper leads one to expect."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vitask.reporting.grid import GridResults
from vitask.reporting.table import markdown, number

LEVEL = 0.05
EXPECTED = {"up": "better", "down": "worse", "none": "-"}


def effects_table(effects: Mapping[str, Mapping[str, Any]], found: GridResults) -> str:
    """Lay out the effects of a grid as Markdown: difference, 95 % interval, p, expectation and verdict.

    Args:
        effects: by name `of` and `over`, two places (row, mode, evaluation), `metric`, and `expected`.
        found: the figures.
    """
    header = ["effect", "figure", "difference", "95 % interval", "p", "seeds", "paper", "here"]
    body = []
    for name, effect in effects.items():
        gains = paired_gains(found, effect["of"], effect["over"], effect["metric"])
        mean = statistics.mean(gains) if gains else math.nan
        low, high = interval(gains)
        p = paired_test(gains)
        body.append([
            name, effect["metric"], signed(mean), f"{signed(low)} to {signed(high)}", number(p), str(len(gains)),
            EXPECTED[effect["expected"]], verdict(mean, p, effect["expected"]),
        ])  # fmt: skip
    return markdown(header, body)


def paired_gains(found: GridResults, of: Sequence[str], over: Sequence[str], key: str) -> list[float]:
    """Return the differences of a figure between two places, for the seeds that both have."""
    own, base = found.values(of, key), found.values(over, key)
    return [own[seed] - base[seed] for seed in found.seeds if seed in own and seed in base]


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t-interval of the mean; NaN for fewer than two values."""
    from scipy.stats import t

    if len(differences) < 2:
        return math.nan, math.nan
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    reach = float(t.ppf(1 - LEVEL / 2, len(differences) - 1)) * error
    mean = statistics.mean(differences)
    return mean - reach, mean + reach


def verdict(mean: float, p: float, expected: str) -> str:
    """Say whether an effect shows.

    Example:
        >>> verdict(0.02, 0.3, "up"), verdict(0.02, 0.01, "up"), verdict(-0.02, 0.01, "up")
        ('not shown', 'holds', 'the opposite')
    """
    if math.isnan(p):
        return "not tested"
    if p >= LEVEL:
        return "not shown"
    if expected == "none":
        return "better" if mean > 0 else "worse"
    return "holds" if (mean > 0) == (expected == "up") else "the opposite"


def signed(value: float) -> str:
    """Return a difference with its sign, a dash for none."""
    return "-" if math.isnan(value) else f"{value:+.3f}"


def paired_test(differences: Sequence[float]) -> float:
    """Return the two-sided p of a paired t-test; NaN when it is not defined."""
    from scipy.stats import ttest_1samp

    if len(differences) < 2 or len(set(differences)) == 1:
        return math.nan
    return float(ttest_1samp(differences, 0.0).pvalue)
