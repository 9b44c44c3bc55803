"""Bars, lines and radars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vitask.reporting.figures.style import INK, PALETTE, colour, dash, draw, legend_below, marker, named, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS, MOST_NUMBERED = 200, 16


def bar_figure(
    groups: Mapping[str, Mapping[str, tuple[float, float | None]]], ylabel: str, *, description: str | None = None
) -> str:
    """Draw bars side by side, with whiskers of one standard deviation.

    Args:
        groups: by series (a colour) and category (a place on the axis) the mean and the standard deviation, if any.
            A mean of NaN, or a category that a series does not have, is a gap.
        ylabel: what the height is.
        description: for those who do not see it; by default the figures themselves.

    Returns:
        SVG text.

    Example:
        >>> bar_figure({"accuracy": {"vanilla": (0.5, 0.1), "+ RDA": (0.7, None)}}, "test")[:4]
        '<svg'
    """
    categories = list(dict.fromkeys(name for values in groups.values() for name in values))
    width = 0.8 / max(1, len(groups))
    highest = max((mean + (sd or 0) for _, _, mean, sd in _bars(groups) if math.isfinite(mean)), default=1.0)

    def paint(axes: Axes) -> None:
        for number, (series, values) in enumerate(groups.items()):
            shift = (number - (len(groups) - 1) / 2) * width
            places = [place + shift for place, name in enumerate(categories) if name in values]
            means = [values[name][0] for name in categories if name in values]
            spreads = [values[name][1] or math.nan for name in categories if name in values]
            hatch = "//" if number >= len(PALETTE) else None
            axes.bar(places, means, width * 0.92, color=colour(number), hatch=hatch, label=short(series, 40))
            if any(map(math.isfinite, spreads)):
                axes.errorbar(places, means, spreads, fmt="none", ecolor=INK, elinewidth=1)
            if len(categories) * len(groups) <= MOST_NUMBERED:
                _number(axes, places, means, spreads)
        _name_categories(axes, categories)
        axes.set_ylabel(short(ylabel, 60))
        axes.set_ylim(0, 1.0 if 0.8 < highest <= 1 else highest * 1.12)
        axes.margins(x=0.02)
        axes.grid(axis="y")
        legend_below(axes)

    inches = min(14.0, max(4.6, 0.36 * len(categories) * max(2, len(groups)) + 1.2))
    return draw(paint, description or _bars_in_words(groups, ylabel), size=(inches, 3.3))


def radar_figure(series: Mapping[str, Mapping[str, float]], *, description: str | None = None) -> str:
    """Draw one closed line a series over axes that leave the middle like rays.

    Args:
        series: by series and axis the value, from 0 to 1; NaN or none is a gap in the line.
        description: for those who do not see it; by default the figures themselves.

    Returns:
        SVG text.

    Example:
        >>> radar_figure({"TSM": {"Path": 0.93, "OCT": 0.93, "Derma": 0.85}})[:4]
        '<svg'
    """
    names = list(dict.fromkeys(axis for values in series.values() for axis in values))
    angles = [2 * math.pi * place / max(1, len(names)) for place in range(len(names))]
    known = [value for values in series.values() for value in values.values() if math.isfinite(value)]
    low = math.floor(max(0.0, min(known, default=0.0) - 0.1) * 5) / 5

    def paint(axes: Any) -> None:
        axes.set_theta_offset(math.pi / 2)
        axes.set_theta_direction(-1)
        for number, (name, values) in enumerate(series.items()):
            heights = [values.get(axis, math.nan) for axis in names]
            axes.plot(
                [*angles, *angles[:1]], [*heights, *heights[:1]], color=colour(number), linestyle=dash(number),
                marker=marker(number), markersize=3.5, label=short(name, 40),
            )  # fmt: skip
            if all(map(math.isfinite, heights)):
                axes.fill(angles, heights, color=colour(number), alpha=0.07, linewidth=0)
        axes.set_xticks(angles, [short(name, 16) for name in names])
        axes.tick_params(axis="x", pad=6)
        for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
            aside = math.sin(angle)
            label.set_horizontalalignment("center" if abs(aside) < 0.1 else "left" if aside > 0 else "right")
        axes.set_ylim(low, 1.0)
        axes.set_yticks([low + (1 - low) * part / 4 for part in range(1, 5)])
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.tick_params(axis="y", labelsize=7.5)
        axes.spines["polar"].set_alpha(0.25)
        legend_below(axes)

    return draw(paint, description or _radar_in_words(series), size=(5.2, 5.0), subplot_kw={"projection": "polar"})


def line_figure(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    *,
    log: bool = False,
    boundaries: Sequence[tuple[float, str]] = (),
    description: str | None = None,
) -> str:
    """Draw lines; one of more than 200 points is thinned to the means of 200 pieces.

    Args:
        lines: by name the places and the values; values that are not finite are left out.
        xlabel: what the places are.
        ylabel: what the values are.
        log: a logarithmic scale of the values.
        boundaries: places to mark, each with a word: where a stage begins, say.
        description: for those who do not see it; by default names and end points.

    Returns:
        SVG text.

    Example:
        >>> line_figure({"loss": ([10, 20], [2.0, 1.5])}, "step", "loss")[:4]
        '<svg'
    """
    drawn = {name: thinned(*points) for name, points in lines.items()}

    def paint(axes: Axes) -> None:
        for number, (name, (places, values)) in enumerate(drawn.items()):
            dots = marker(number) if len(places) < 12 else None
            axes.plot(places, values, color=colour(number), linestyle=dash(number), marker=dots, markersize=4,
                      label=short(name, 40))  # fmt: skip
        for place, word in boundaries:
            axes.axvline(place, color=INK, alpha=0.35, linewidth=0.8)
            top = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top"}
            axes.annotate(short(word), (place, 1), (3, -2), fontsize=8, **top)
        if log and any(value > 0 for _, values in drawn.values() for value in values):
            axes.set_yscale("log", nonpositive="mask")
        axes.set_xlabel(short(xlabel, 60))
        axes.set_ylabel(short(ylabel, 60))
        axes.grid()
        legend_below(axes)

    return draw(paint, description or _lines_in_words(drawn, xlabel, ylabel), size=(4.6, 3.0))


def thinned(places: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the finite points of a line, the means of pieces when they are too many.

    Example:
        >>> thinned([1, 2, 3], [0.5, float("nan"), 0.25])
        ([1, 3], [0.5, 0.25])
    """
    points = [(x, y) for x, y in zip(places, values, strict=True) if math.isfinite(y)]
    if len(points) > MOST_POINTS:
        ends = [round(len(points) * part / MOST_POINTS) for part in range(MOST_POINTS + 1)]
        pieces = [points[start:stop] for start, stop in pairwise(ends)]
        points = [(sum(x for x, _ in piece) / len(piece), sum(y for _, y in piece) / len(piece)) for piece in pieces]
    return [x for x, _ in points], [y for _, y in points]


def _number(axes: Axes, places: Sequence[float], means: Sequence[float], spreads: Sequence[float]) -> None:
    for place, mean, sd in zip(places, means, spreads, strict=True):
        if math.isfinite(mean):
            top = (place, mean + (0 if math.isnan(sd) else sd))
            axes.annotate(f"{mean:.2f}", top, (0, 2), textcoords="offset points", ha="center", fontsize=8)


def _name_categories(axes: Axes, categories: Sequence[str]) -> None:
    names = [short(name) for name in categories]
    crowded = sum(map(len, names)) > 46 or max(map(len, names), default=0) > 14
    turn = {"rotation": 32, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(names)), names, **turn)
    axes.tick_params(axis="x", length=0)


def _bars(groups: Mapping[str, Mapping[str, tuple[float, float | None]]]) -> list[tuple[str, str, float, float | None]]:
    return [(series, name, *pair) for series, values in groups.items() for name, pair in values.items()]


def _bars_in_words(groups: Mapping[str, Mapping[str, tuple[float, float | None]]], ylabel: str) -> str:
    said = [
        f"{short(name, 60)} {mean:.3f}" + (f" ± {sd:.3f}" if sd is not None else "")
        if len(groups) == 1
        else f"{short(series, 60)}, {short(name, 60)} {mean:.3f}" + (f" ± {sd:.3f}" if sd is not None else "")
        for series, name, mean, sd in _bars(groups)
        if math.isfinite(mean)
    ]
    return f"Bars{f' of {ylabel}' if ylabel else ''}: {'; '.join(said)}"


def _radar_in_words(series: Mapping[str, Mapping[str, float]]) -> str:
    said = [
        f"{short(name, 60)}: "
        + ", ".join(f"{short(axis, 60)} {value:.3f}" for axis, value in values.items() if math.isfinite(value))
        for name, values in series.items()
    ]
    return f"Radar. {'; '.join(said)}"


def _lines_in_words(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str, ylabel: str) -> str:
    said = [
        f"{short(name, 60)} from {values[0]:.3g} to {values[-1]:.3g}" for name, (_, values) in lines.items() if values
    ]
    return f"{ylabel} over {xlabel}: {'; '.join(said)}" if said else f"{ylabel} over {xlabel}: {named(list(lines))}"
