"""The page in a real browser: on a desk and on a phone, in light and dark, on paper."""

from __future__ import annotations

import pytest

from vitask.reporting.html import render

from .browser import Browser, find_browser
from .test_page import page

WIDTHS, SCHEMES, SHEET = (1280, 360), ("light", "dark"), 700
"""In pixels of a 96th of an inch; the sheet is A4 without margins."""
TOO_WIDE = """
(() => {
  const edge = document.documentElement.clientWidth + 0.5;
  const inBox = element => element.closest('.scroll') && element !== element.closest('.scroll');
  return [...document.body.querySelectorAll('*')]
    .filter(e => !inBox(e) && !e.closest('svg') && e.getClientRects().length && e.getBoundingClientRect().right > edge)
    .map(e => e.tagName + '.' + e.className + ' ' + e.getBoundingClientRect().right);
})()
"""
FIGURES = """
[...document.querySelectorAll('figure')].map(figure => {
  const svg = figure.querySelector('svg');
  const box = svg ? svg.getBBox() : {width: 0, height: 0};
  return svg && svg.getBoundingClientRect().height > 60 && box.width > 60 && box.height > 60;
})
"""
FAINT = """
(() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor);
      if (colour[3] === 255) return colour;
    }
  };
  const contrast = element => {
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const speaks = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll('*')]
    .filter(e => !e.closest('svg') && e.getClientRects().length && speaks(e) && contrast(e) < 4.5)
    .map(e => contrast(e) + ' ' + e.tagName + '.' + e.className);
})()
"""
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"


@pytest.fixture(scope="module")
def browser():
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with Browser(path) as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(page()), encoding="utf-8")
    return path


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=str)
def opened(request, browser, report):
    """The page with everything unfolded."""
    browser.complaints.clear()
    browser.show(report, *request.param)
    browser.value(OPEN)
    return browser


def test_the_browser_has_nothing_to_complain_of(opened):
    assert opened.complaints == []
    assert opened.value("document.title").startswith("Title <script>")


def test_nothing_is_wider_than_the_window(opened):
    assert opened.value(TOO_WIDE) == []
    assert opened.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert opened.value("document.querySelectorAll('.scroll').length") > 10


def test_every_figure_is_drawn_and_every_image_decodes(opened):
    drawn = opened.value(FIGURES)
    assert len(drawn) > 10
    assert all(drawn)
    assert opened.value("Promise.all([...document.images].map(each => each.decode())).then(found => found.length)") > 0


def test_every_text_stands_out_from_its_ground(opened):
    assert opened.value(FAINT) == []


def test_figures_take_the_page_s_ink(browser, report):
    inks = []
    for scheme in SCHEMES:
        browser.show(report, 1280, scheme)
        inks.append(browser.value("getComputedStyle(document.querySelector('figure svg')).color"))
    assert inks[0] != inks[1]


def test_a_link_into_a_closed_row_opens_it(browser, report):
    browser.show(report, 1280)
    browser.value("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    browser.value("document.querySelector('nav a[href=\"#row-1-2\"]').click()")
    assert browser.value("document.getElementById('row-1-2').closest('details').open") is True


def test_on_paper_rows_are_unfolded_and_the_ground_is_white(browser, report):
    browser.show(report, 1280, "dark", media="print")
    browser.value("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    assert browser.value("document.getElementById('row-1-1').getBoundingClientRect().height") > 100
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_sheet_of_paper_is_wide_enough(browser, report):
    browser.show(report, SHEET, media="print")
    assert browser.value("document.documentElement.scrollWidth") <= SHEET


def test_what_is_broken_is_seen(browser, tmp_path):
    """The checks above can fail."""
    path = tmp_path / "broken.html"
    path.write_text(
        "<!doctype html><title>x</title><body style='background:#fff'><p style='width:2000px;color:#ccc'>wide</p>"
        "<figure></figure><script>console.error('said'); nowhere()</script><img src='http://127.0.0.1:9/x.png'>"
    )
    browser.complaints.clear()
    browser.show(path, 360)
    assert len(browser.value(TOO_WIDE)) == 1
    assert browser.value(FIGURES) == [None]
    assert len(browser.value(FAINT)) == 1
    said = " ".join(browser.complaints)
    assert "said" in said
    assert "127.0.0.1" in said
    browser.complaints.clear()
