"""How a classifier answers: confusion, reliability, and the densities of right and wrong pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vitask.reporting.figures.style import INK, colour, dash, draw, legend_below, marker, named, short

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

MOST_NAMED, MOST_COUNTED = 40, 14
GRID_POINTS = 101
SHADE, DARKEST = "#2f88c9", 0.75
"""Of a cell: text in the page's ink stays readable on it, on light and on dark paper."""


def confusion_figure(
    matrix: Sequence[Sequence[float]], labels: Sequence[str], *, description: str | None = None
) -> str:
    """Draw a confusion matrix, each row's shares as shades; up to 14 labels with the counts.

    Args:
        matrix: counts, a row a true label, a column an answer; further columns are answers that are no label.
        labels: their texts.
        description: for those who do not see it; by default the share of each label that is right.

    Returns:
        SVG text.

    Example:
        >>> confusion_figure([[8, 2], [1, 9]], ["cat", "dog"])[:4]
        '<svg'
    """
    names = [*labels, *(["no label"] if matrix and len(matrix[0]) > len(labels) else [])]

    def paint(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        for row, counts in enumerate(matrix):
            total = sum(counts)
            for column, count in enumerate(counts):
                if count:
                    shade = 0.04 + (DARKEST - 0.04) * count / total
                    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=SHADE, alpha=shade, linewidth=0))
                    if len(names) <= MOST_COUNTED:
                        axes.text(column, row, f"{count:g}", ha="center", va="center", fontsize=8)
        axes.set_xlim(-0.5, max(1, len(names)) - 0.5)
        axes.set_ylim(max(1, len(matrix)) - 0.5, -0.5)
        axes.set_aspect("equal")
        if len(names) <= MOST_NAMED:
            axes.set_xticks(range(len(names)), [short(name, 16) for name in names], rotation=45, ha="right",
                            rotation_mode="anchor")  # fmt: skip
            axes.set_yticks(range(len(matrix)), [short(name, 16) for name in names[: len(matrix)]])
        axes.tick_params(length=0)
        axes.set_xlabel("answer")
        axes.set_ylabel("truth")

    side = min(7.0, 2.3 + 0.27 * len(names))
    return draw(paint, description or _confusion_in_words(matrix, labels), size=(side, side))


def reliability_figure(bins: Mapping[str, Sequence[Mapping[str, float]]], *, description: str | None = None) -> str:
    """Draw how often answers of a confidence are right; on the dashed line they are right as often as they say.

    Args:
        bins: by series, bins with `confidence`, `accuracy` and `count`; empty ones are left out. A mark's area follows
            the count.
        description: for those who do not see it; by default the bins in words.

    Returns:
        SVG text.

    Example:
        >>> reliability_figure({"w/o EP": [{"confidence": 0.9, "accuracy": 0.7, "count": 50}]})[:4]
        '<svg'
    """
    full = {name: [each for each in several if each["count"]] for name, several in bins.items()}

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=0.9, linestyle=(0, (4, 3)))
        for number, (name, several) in enumerate(full.items()):
            total = sum(each["count"] for each in several) or 1
            places, heights = ([each[key] for each in several] for key in ("confidence", "accuracy"))
            axes.plot(places, heights, color=colour(number), linestyle=dash(number), label=short(name, 40))
            sizes = [10 + 150 * each["count"] / total for each in several]
            axes.scatter(places, heights, sizes, color=colour(number), marker=marker(number), alpha=0.75, linewidth=0)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
        axes.grid()
        legend_below(axes)

    return draw(paint, description or _reliability_in_words(full), size=(3.9, 4.0))


def density_figure(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "mean probability of the response's tokens",
    *,
    description: str | None = None,
) -> str:
    """Draw the densities of right and of wrong pairs, a panel a model (the paper's Figure 3).

    Args:
        pairs: by name of the panel the probabilities, from 0 to 1, of responses behind their own image and behind
            another one. Panels without any are left out.
        xlabel: what the probabilities are.
        description: for those who do not see it; by default the means.

    Returns:
        SVG text.

    Example:
        >>> density_figure({"vanilla": ([0.7, 0.9, 0.8], [0.2, 0.4, 0.1])})[:4]
        '<svg'
    """
    import numpy as np

    places = np.linspace(0, 1, GRID_POINTS)
    known = {name: both for name, both in pairs.items() if all(map(len, both))}

    def paint(*panels: Axes) -> None:
        for axes, (name, both) in zip(panels, known.items(), strict=False):
            for number, (word, values) in enumerate(zip(("own image", "other image"), both, strict=True)):
                heights = density(values, places)
                axes.plot(places, heights, color=colour(number), linestyle=dash(number), label=word)
                axes.fill_between(places, heights, color=colour(number), alpha=0.15, linewidth=0)
            axes.set_title(short(name))
            axes.set_xlim(0, 1)
            axes.set_ylim(bottom=0)
            axes.grid()
        panels[0].set_ylabel("density")
        panels[len(panels) // 2].set_xlabel(short(xlabel, 60))
        legend_below(panels[0])

    panels = max(1, len(known))
    return draw(paint, description or _densities_in_words(known), size=(1.0 + 2.7 * panels, 3.2), panels=panels)


def density(values: Sequence[float], places: np.ndarray) -> np.ndarray:
    """Return a kernel density of values from 0 to 1; what would leak over an end is reflected, so that it sums to one.

    Values that are all the same have no density; they get a narrow peak.
    """
    import numpy as np
    from scipy.stats import gaussian_kde, norm

    samples = np.asarray(values, dtype=float)
    if samples.std() < 1e-4:

        def estimate(points: np.ndarray) -> np.ndarray:
            return norm.pdf(points, samples.mean(), 0.01)

    else:
        estimate = gaussian_kde(samples)
    return estimate(places) + estimate(-places) + estimate(2 - places)


def _confusion_in_words(matrix: Sequence[Sequence[float]], labels: Sequence[str]) -> str:
    right = [
        f"{short(label, 60)} {row[place] / sum(row):.0%} of {sum(row):g}"
        for place, (label, row) in enumerate(zip(labels, matrix, strict=False))
        if sum(row)
    ]
    return f"Confusion matrix. Right answers: {named(right, 20)}"


def _reliability_in_words(bins: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    said = [
        f"{short(name, 60)}: " + ", ".join(f"{b['accuracy']:.2f} right at {b['confidence']:.2f}" for b in several)
        for name, several in bins.items()
    ]
    return f"Reliability: share of right answers by confidence. {'; '.join(said)}"


def _densities_in_words(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    said = [
        f"{short(name, 60)}: own image {_mean(own):.3f}, other image {_mean(other):.3f}"
        for name, (own, other) in pairs.items()
    ]
    return f"Densities of the response's probability; means: {'; '.join(said)}"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
