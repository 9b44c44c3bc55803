"""The page: whatever a label says stays a text, every link leads somewhere, and it never grows beyond 5 MB."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from vitask.reporting.details import Picture
from vitask.reporting.html import Budget, Page, render
from vitask.reporting.missing import Note
from vitask.reporting.sections import StudySection, study_section

from .studies import HOSTILE, LABELS, examples, grid, metrics, mixture, run, study

VOID = {"meta", "br", "img", "link", "input", "hr", "path", "rect", "use"}


@cache
def sections() -> tuple[StudySection, ...]:
    """A grid, a study of runs and a mixture."""
    found = study()
    shown = {found.rows[-1]: examples()}
    return study_section(grid(found), shown), study_section(found, shown), study_section(mixture(), {})


def page(**changes) -> Page:
    """A page with all of them."""
    runs = [run for several in study().runs.values() for run in several]
    given = {
        "title": f"Title {HOSTILE}",
        "sources": [f"runs/{HOSTILE}"],
        "made": "Made today.",
        "studies": sections(),
        "runs": runs,
        "missing": [Note(f"Lost: {HOSTILE}", f"vitask evaluate run={HOSTILE}")],
    }
    return Page(**{**given, **changes})


class Reader(HTMLParser):
    """Collects elements and texts, and checks that elements are nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.texts.append(data)

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if attributes.get(name)]


@pytest.fixture(scope="module")
def text() -> str:
    return render(page())


@pytest.fixture(scope="module")
def read(text) -> Reader:
    return Reader(text)


def test_no_text_becomes_an_element(read, text):
    tags = [tag for tag, _ in read.elements]
    assert "script" not in tags
    assert tags.count("img") == sum(len(several) for several in examples().examples.values()) * 2
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    shown = " ".join(read.texts)
    for label in LABELS:
        assert label in shown
    assert "<script" not in text.lower()


def test_elements_are_nested_and_ids_are_the_page_s_own(read):
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    links = [link for link in read.values("href") + read.values("xlink:href") if link]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert set(read.values("aria-labelledby")) <= set(ids)


def test_nothing_is_fetched(read, text):
    assert all(source.startswith("data:image/") for source in read.values("src"))
    assert all(link.startswith("#") for link in read.values("href"))
    assert not re.search(r"https?://(?!www\.w3\.org/)", re.sub(r"vitask evaluate[^<]*", "", text))
    (policy,) = [attributes["content"] for _, attributes in read.elements if attributes.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert "@import" not in text
    assert "url(" not in re.sub(r"url\(#", "", text)


def test_headings_go_down_one_level_at_a_time(read):
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels


def test_figures_and_images_say_what_they_show(read):
    figures = [attributes for tag, attributes in read.elements if tag == "svg"]
    assert len(figures) > 10
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in figures)
    assert all(attributes["alt"] for tag, attributes in read.elements if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in read.elements if tag == "th")


def test_everything_that_was_asked_for_is_there(read):
    shown = " ".join(read.texts)
    for words in (
        "Deviations from the paper", "The data are digits, which the paper does not use.", "Row by row",
        "Confusion, w/o EP.", "Reliability", "Ranking", "Losses:", "Learning rate.", "What the exemplar changed",
        "Effects", "Further figures", "Wrong without the exemplar, right with it: 3 images", "Settings of seed 0",
        "objective:", "fingerprint", "torch", "Cost:", "data sets", "What is missing", "vitask evaluate run=",
    ):  # fmt: skip
        assert words in shown, words


def test_a_page_of_nothing_but_figures_of_a_grid_is_whole():
    bare = replace(grid(study(seeds=(0,))), runs={})
    text = render(page(studies=[study_section(bare, {})], runs=[], missing=[]))
    shown = " ".join(Reader(text).texts)
    assert "Deviations from the paper" not in shown
    assert "What is missing" not in shown
    assert "Runs, data, versions" not in shown


def test_a_page_stays_below_five_megabytes_and_says_what_it_left_out():
    picture = Picture(f'<svg role="img" aria-label="x"><title>{"x" * 700_000}</title></svg>', "large")
    section = sections()[1]
    rows = [replace(row, pictures=[picture] * 5) for row in section.rows]
    text = render(page(studies=[replace(section, rows=rows)], missing=[]))
    assert len(text.encode()) < 5_000_000
    assert "3 figures and images, so that the page stays below 5 MB" in text


def test_texts_count_too_and_figures_of_a_study_go_before_those_of_its_rows():
    figure = Picture(f'<svg role="img" aria-label="x"><title>{"x" * 2_000_000}</title></svg>', "large")
    section = sections()[1]
    rows = [replace(row, pictures=[figure]) for row in section.rows]
    long = replace(section.tables[0], note="n" * 1_000_000)
    first = replace(section, rows=rows, pictures=[], tables=[long])
    text = render(page(studies=[first, replace(section, rows=[], pictures=[figure._replace(caption="of the study")])]))
    assert len(text.encode()) < 5_000_000
    assert "<figcaption>of the study</figcaption>" in text
    assert "2 figures and images" in text


def test_a_budget_counts_bytes_not_letters():
    budget = Budget(5)
    assert not budget.allows("ä" * 3)
    assert budget.allows("ä" * 2)
    assert (budget.left, budget.left_out) == (1, 1)


def test_of_many_rows_the_first_are_shown_in_detail(monkeypatch):
    monkeypatch.setattr("vitask.reporting.sections.DETAILED", 1)
    section = study_section(replace(study(seeds=(0,)), runs={}), {})
    assert [row.name for row in section.rows] == ["vanilla"]
    text = render(page(studies=[section]))
    assert "1 further row is in the tables alone" in text


def test_a_run_without_environment_or_summary_is_shown():
    bare = replace(run("a", 0, "stage=ep"), environment={}, summary={}, log=[])
    section = sections()[1]
    rows = [replace(row, runs=[bare], pictures=[]) for row in section.rows]
    assert "vanilla" in render(page(studies=[replace(section, rows=rows)], runs=[bare]))


def test_figures_that_are_missing_in_every_part_leave_the_table():
    found = study(seeds=(0,))
    few = [
        replace(r, metrics={"split": "test", "mode": r.mode, "accuracy": metrics(r.mode)["accuracy"]})
        for r in found.results
    ]
    text = render(page(studies=[study_section(replace(found, results=few, runs={}), {})], runs=[], missing=[]))
    assert "accuracy" in text
    assert "Confusion" not in text
