"""Which effects a grid shows: differences paired by seed, their intervals, and what the paper leads one to expect."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitask.reporting.grid import GridResults, complete
from vitask.reporting.paper import TABLES
from vitask.reporting.table import markdown, number

LEVEL = 0.05
LOWER_IS_BETTER = ("brier", "ece", "mae", "invalid_rate", "perplexity")
EXPECTED = {"up": "better", "down": "worse", "none": "-"}


@dataclass(frozen=True)
class Effect:
    """A difference between two places of a grid, paired by seed.

    Attributes:
        name: of the effect.
        metric: the figure that is compared.
        gains: its difference, one a seed that both places have.
        expected: by the paper: up, down or none.
        paper: the paper's own difference, the mean over its data sets; none where it gives no figures.
    """

    name: str
    metric: str
    gains: Sequence[float]
    expected: str
    paper: float | None = None

    @property
    def mean(self) -> float:
        """The mean difference; NaN for none."""
        return statistics.mean(self.gains) if self.gains else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % t-interval of the mean."""
        return interval(self.gains)

    @property
    def p(self) -> float:
        """The two-sided p of a paired t-test."""
        return paired_test(self.gains)

    @property
    def in_paper(self) -> str:
        """What the paper reports: its difference, or in a word what it says."""
        return EXPECTED[self.expected] if self.paper is None else signed(self.paper)

    @property
    def here(self) -> str:
        """Whether it shows."""
        better = -self.mean if self.metric.rpartition(".")[2] in LOWER_IS_BETTER else self.mean
        return verdict(better, self.p, self.expected)


def effects_of(grid: Mapping[str, Any], found: GridResults) -> list[Effect]:
    """Return the effects that a grid asks for, beside the paper's.

    Args:
        grid: `effects` by name: `of` and `over`, two places (row, mode, evaluation), `metric`, and `expected`; `paper`:
            which of the paper's tables it repeats; `evaluations`: which of them plug another TSM in.
        found: the figures.
    """
    table, plugs = TABLES.get(grid.get("paper") or ""), grid.get("evaluations") or {}
    effects = []
    for name, effect in grid["effects"].items():
        of, over, metric = effect["of"], effect["over"], effect["metric"]
        theirs = table.difference(_in_paper(of, plugs), _in_paper(over, plugs), metric) if table else None
        effects.append(Effect(name, metric, paired_gains(found, of, over, metric), effect["expected"], theirs))
    return effects


def effects_table(grid: Mapping[str, Any], found: GridResults) -> str:
    """Lay out the effects of a grid as Markdown: difference, 95 % interval, p, the paper's, verdict."""
    header = ["effect", "figure", "difference", "95 % interval", "p", "seeds", "paper", "here"]
    body = [
        [e.name, e.metric, signed(e.mean), " to ".join(map(signed, e.interval)), number(e.p), str(len(e.gains)),
         e.in_paper, e.here]
        for e in effects_of(grid, found)
    ]  # fmt: skip
    return markdown(header, body)


def _in_paper(place: Sequence[str], evaluations: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Name a place of a grid as the paper's tables name it."""
    row, mode, evaluation = complete(place)
    if mode == "tsm":
        return "TSM", "tsm"
    return f"{row}-plug" if evaluations.get(evaluation, {}).get("plug") else row, mode


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
    """Say whether an effect shows, whose mean is above 0 where things got better.

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
