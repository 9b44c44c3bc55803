"""What all figures share: size, colours, and SVG that can stand in a page or alone."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#c16a9a", "#8a7a16", "#7d8590")
"""Okabe and Ito's colours, darkened where white paper asks for it: 3:1 on white and on near-black."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#010203"
"""Stands for the colour of text and axes while drawing; the SVG says `currentColor`."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
STYLE = ".vitask-figure{color:#24292f}@media screen and (prefers-color-scheme:dark){.vitask-figure{color:#d7dce2}}"
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vitask",
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "lines.linewidth": 1.7,
    "hatch.linewidth": 0.6,
}


def draw(
    paint: Callable[..., None], description: str, *, size: tuple[float, float], panels: int = 1, **options: Any
) -> str:
    """Draw panels side by side and return SVG text.

    Args:
        paint: called with the panels' axes, `paint(*axes)`.
        description: what the figure shows, for those who do not see it.
        size: width and height in inches.
        panels: how many, of one range along the axis below.
        options: of `Figure.subplots`.

    Returns:
        One `<svg>` element with a transparent ground; text and axes take the colour of the page's text.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's own font has it
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False, sharex=True, **options)[0]
        paint(*axes)
        return _svg(figure, description)


def colour(number: int) -> str:
    """Return the colour of the n-th series; after the last the first comes again, with another dash and marker."""
    return PALETTE[number % len(PALETTE)]


def dash(number: int) -> Any:
    """Return the dash of the n-th series."""
    return DASHES[number % len(DASHES)]


def marker(number: int) -> str:
    """Return the marker of the n-th series."""
    return MARKERS[number % len(MARKERS)]


def short(text: str, most: int = 26) -> str:
    """Return a text in one printable line, cut when too long.

    Example:
        >>> short("basal cell carcinoma, superficial", 20)
        'basal cell carcinom…'
    """
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def legend_below(axes: Axes) -> None:
    """Put the legend under the panels, so that it never covers data, if there is anything to tell apart."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1:
        fitting = int(axes.figure.get_figwidth() * 11 / (max(map(len, names)) + 7))
        axes.figure.legend(handles, names, loc="outside lower center", ncols=max(1, min(len(names), fitting)))


def named(names: Sequence[str], most: int = 8) -> str:
    """Return names as a list in words, for descriptions."""
    shown = ", ".join(short(name, 60) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _svg(figure: Figure, description: str) -> str:
    """Turn matplotlib's SVG into one that inherits ink and font, has no id twice in a page, and says what it shows."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace("'DejaVu Sans', sans-serif", "inherit").replace("\n", " ")
    text = re.sub(r" {2,}", " ", text).replace("> <", "><")
    text = re.sub(r'(?<= d=")[^"]+', lambda path: re.sub(r"\d+\.\d{2,}", _rounded, path[0]), text)
    text = _own_ids(text)
    width, height = (
        float(side) * 4 / 3 for side in re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()
    )
    box = re.search(r'viewBox="[^"]*"', text)[0]
    body = text[text.index(">") + 1 :]
    label = escape(short(description, 2000))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="vitask-figure" '
        f'role="img" aria-label="{label}" width="{width:.0f}" height="{height:.0f}" {box} '
        f'stroke-linejoin="round" font-family="{FONT}"><style>{STYLE}</style>{body}'
    )


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _own_ids(text: str) -> str:
    """Drop ids that nothing refers to, and give the others a prefix that follows from the figure."""
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    prefix = f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def renamed(match: re.Match[str]) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r' id="([^"]+)"', renamed, text)
    return re.sub(r'(url\(#|href="#)([^")]+)', rf"\g<1>{prefix}-\g<2>", text)
