"""Figures: valid SVG that stands alone or in a page, drawn to scale, readable on any paper and by anybody."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.integrate import trapezoid

from vitask.reporting.figures import (
    bar_figure,
    confusion_figure,
    density_figure,
    line_figure,
    radar_figure,
    reliability_figure,
)
from vitask.reporting.figures.charts import thinned
from vitask.reporting.figures.evaluation import density
from vitask.reporting.figures.style import PALETTE, short

HOSTILE = '</text><script>alert("1")</script> $x_{$ & \x00\n'
BINS = [{"confidence": 0.3, "accuracy": 0.2, "count": 5}, {"confidence": 0.9, "accuracy": 0.95, "count": 50}]
PAPERS = ("#ffffff", "#14171b")
FIGURES = {
    "bars": bar_figure({HOSTILE: {"TSM": (0.9, 0.1), HOSTILE: (0.5, None)}, "F1": {"TSM": (0.4, 0.0)}}, HOSTILE),
    "radar": radar_figure({HOSTILE: {"Path": 0.9, HOSTILE: 0.5, "OCT": 0.7}, "b": {"Path": math.nan, "OCT": 0.2}}),
    "lines": line_figure(
        {HOSTILE: ([1, 2], [3, 4]), "b": ([1, 2], [5, 6])}, "step", HOSTILE, boundaries=[(1, HOSTILE)]
    ),
    "log": line_figure({"loss": ([1, 2, 3], [10, 0, 0.1])}, "step", "loss", log=True),
    "confusion": confusion_figure([[3, 1], [0, 4]], [HOSTILE, "b"]),
    "reliability": reliability_figure({HOSTILE: BINS, "b": []}),
    "densities": density_figure({HOSTILE: ([0.8, 0.9, 0.7], [0.1, 0.3]), "b": ([1.0, 1.0], [0.0, 0.5])}),
    "no bars": bar_figure({}, "accuracy"),
    "no radar": radar_figure({}),
    "no lines": line_figure({}, "step", "loss"),
    "no confusion": confusion_figure([], []),
    "no reliability": reliability_figure({}),
    "no densities": density_figure({"b": ([], [])}),
}


def fills(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The corners of every shape of a colour."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: {colour}[^"]*"', svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)] for path in paths]


def height(corners: list[tuple[float, float]]) -> float:
    return max(y for _, y in corners) - min(y for _, y in corners)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio."""
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_valid_svg_that_needs_nothing_else(name):
    svg = FIGURES[name]
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.attrib["role"] == "img"
    assert len(root.attrib["aria-label"]) > 3
    assert {"width", "height", "viewBox"} <= set(root.attrib)
    assert not re.findall(r"<image|<script|<!DOCTYPE|url\((?!#)|href=\"(?!#)|@import", svg)
    assert [e.tag for e in root.iter() if "script" in str(e.tag)] == []


@pytest.mark.parametrize("name", [name for name in FIGURES if not name.startswith("no ") and name != "log"])
def test_a_hostile_text_stays_a_text(name):
    texts = ["".join(e.itertext()) for e in ElementTree.fromstring(FIGURES[name]).iter() if str(e.tag).endswith("text")]
    assert any(text.strip().startswith("</text>") for text in texts), texts


@pytest.mark.parametrize("name", FIGURES)
def test_ink_follows_the_page_and_the_ground_is_clear(name):
    svg = FIGURES[name]
    assert "#010203" not in svg
    assert name.startswith("no ") or "currentColor" in svg
    assert "prefers-color-scheme:dark" in svg
    colours = set(re.findall(r": (#[0-9a-f]{6})", svg.partition("</style>")[2]))
    assert colours <= {*PALETTE, "#2f88c9"}, "white, black or another colour that is not checked below"


def test_figures_of_one_page_share_no_id():
    found = [identifier for svg in FIGURES.values() for identifier in re.findall(r' id="([^"]+)"', svg)]
    assert found
    assert len(found) == len(set(found))
    for svg in FIGURES.values():
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) == set(re.findall(r' id="([^"]+)"', svg))


def test_the_same_figures_give_the_same_text():
    assert confusion_figure([[3, 1], [0, 4]], [HOSTILE, "b"]) == FIGURES["confusion"]


@pytest.mark.parametrize("colour", PALETTE)
@pytest.mark.parametrize("paper", PAPERS)
def test_every_colour_stands_out_from_light_and_dark_paper(colour, paper):
    assert contrast(colour, paper) >= 3


@pytest.mark.parametrize(
    "seen",
    [
        np.eye(3),
        np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
        np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
        np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
    ],
    ids=["usual", "protanopia", "deuteranopia", "tritanopia"],
)
def test_the_first_four_colours_differ_to_every_eye(seen):
    """Machado, Oliveira and Fernandes (2009), severity 1; the distance is that of CIELAB."""
    for one, other in itertools.combinations(PALETTE[:4], 2):
        assert np.linalg.norm(lab(seen @ linear(one)) - lab(seen @ linear(other))) > 11, (one, other)


def lab(rgb: np.ndarray) -> np.ndarray:
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratios = (matrix @ rgb.clip(0, 1)) / [0.9505, 1, 1.089]
    cubes = np.where(ratios > 216 / 24389, np.cbrt(ratios), (24389 / 27 * ratios + 16) / 116)
    return np.array([116 * cubes[1] - 16, 500 * (cubes[0] - cubes[1]), 200 * (cubes[1] - cubes[2])])


def test_bars_are_as_high_as_their_means_and_a_missing_one_is_a_gap():
    svg = bar_figure({"accuracy": {"a": (0.8, 0.05), "b": (0.4, None), "c": (math.nan, None)}}, "test")
    bars = [height(corners) for corners in fills(svg, PALETTE[0]) if height(corners) > 0]
    assert len(bars) == 2
    assert bars[0] / bars[1] == pytest.approx(2, rel=1e-3)
    assert "a 0.800 ± 0.050; b 0.400" in svg
    assert "c nan" not in svg


def test_whiskers_reach_one_standard_deviation_up_and_down():
    svg = bar_figure({"accuracy": {"a": (0.8, 0.1), "b": (0.4, None)}}, "test")
    (tall, _) = (height(corners) for corners in fills(svg, PALETTE[0]) if height(corners) > 0)
    found = re.findall(r'd="M ([\d.]+) ([\d.]+) L \1 ([\d.]+) "[^>]*style="fill: none; stroke: currentColor"/>', svg)
    (whisker,) = (abs(float(low) - float(high)) for _, low, high in found)
    assert whisker == pytest.approx(tall * 0.2 / 0.8, rel=1e-2)


def test_a_confusion_matrix_shades_by_the_share_of_the_row_and_shows_counts():
    svg = confusion_figure([[30, 10], [0, 4]], ["cat", "dog"])
    shades = [float(each) for each in re.findall(r"fill: #2f88c9; opacity: ([\d.]+)", svg)]
    assert shades == pytest.approx([0.04 + 0.71 * share for share in (0.75, 0.25, 1.0)])
    assert all(f">{count}<" in svg for count in (30, 10, 4))
    assert "cat 75% of 40, dog 100% of 4" in svg


def test_answers_that_are_no_label_have_a_column():
    assert ">no label<" in confusion_figure([[3, 1, 2], [0, 4, 1]], ["cat", "dog"])


def test_many_labels_make_no_crowd():
    count = 60
    svg = confusion_figure(np.eye(count, dtype=int).tolist(), [f"label {place}" for place in range(count)])
    assert "label 3<" not in svg
    assert len(svg) < 60_000


@pytest.mark.parametrize("values", [[0.1, 0.4, 0.35, 0.8], [0.0, 0.0, 0.01], [1.0, 0.98, 1.0], [0.5] * 4, [0.3]])
def test_a_density_sums_to_one_though_its_kernels_reach_over_the_ends(values):
    places = np.linspace(0, 1, 4001)
    assert trapezoid(density(values, places), places) == pytest.approx(1, abs=2e-3)


def test_every_panel_of_densities_begins_at_zero():
    pairs = {name: ([0.4, 0.5, 0.6], [0.1, 0.12, 0.9]) for name in ("a", "b")}
    svg = density_figure(pairs)
    whole = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])
    top, tall = (
        float(each)
        for each in re.search(r'<rect x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', svg).groups()
    )
    shapes = re.findall(r'<path id="[^"]*" d="([^"]{500,})"', svg)  # they hang from the figure's lower edge
    grounds = [whole + max(float(y) for y in re.findall(r"[ML] -?[\d.]+ (-?[\d.]+)", shape)) for shape in shapes]
    assert grounds == pytest.approx([top + tall] * 4, abs=0.1)


def test_a_density_is_that_of_gaussian_kernels_with_reflection():
    values, place = [0.05, 0.2, 0.6], 0.1
    width = np.std(values, ddof=1) * len(values) ** (-1 / 5)  # Scott's rule
    kernels = [
        math.exp(-(((place - centre) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
        for value in values
        for centre in (value, -value, 2 - value)
    ]
    assert density(values, np.array([place]))[0] == pytest.approx(sum(kernels) / len(values), rel=1e-9)


def test_a_long_line_is_thinned_to_means():
    places, values = thinned(range(1000), [float(place % 2) for place in range(1000)])
    assert len(places) == 200
    assert places[:2] == [2, 7]
    assert sum(values) / len(values) == pytest.approx(0.5)


def test_what_is_not_finite_is_left_out_of_a_line():
    assert thinned([1, 2, 3, 4], [0.5, math.nan, math.inf, 0.25]) == ([1, 4], [0.5, 0.25])


def test_a_text_is_one_line_and_cut_when_too_long():
    assert short("a\nb\x00  c") == "a b c"
    assert short("x" * 50, 10) == "x" * 9 + "…"


def test_matplotlib_comes_only_when_something_is_drawn():
    program = (
        "import sys, vitask.reporting.figures; print(sorted({'matplotlib', 'numpy', 'scipy'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"
