"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from vitask.reporting.examples import KINDS
from vitask.reporting.missing import Note
from vitask.reporting.sections import StudySection, settings_of
from vitask.reporting.study import RunRecord

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MOST_BYTES = 4_950_000
"""Of one page, so that it stays below 5 MB."""


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: of the page.
        sources: the folders that it is about.
        made: when and by which version, in words.
        studies: the sections.
        runs: every run that it draws on.
        missing: what it could not show.
    """

    title: str
    sources: Sequence[str]
    made: str
    studies: Sequence[StudySection]
    runs: Sequence[RunRecord]
    missing: Sequence[Note]


def render(page: Page) -> str:
    """Write a page as HTML; every text is escaped, figures stand in it as SVG, images as data URIs.

    Raises:
        jinja2.TemplateError: the template is damaged.
    """
    settings = {run.name: settings_of(run) for run in page.runs}
    template = _environment().get_template("report.html")

    def written(budget: Budget) -> str:
        return template.render(page=page, kinds=KINDS, settings=settings, budget=budget, drawn=_drawer(budget))

    texts = len(written(Budget(0)).encode())
    studies = sum(len(picture.svg.encode()) for section in page.studies for picture in section.pictures)
    return written(Budget(MOST_BYTES - texts, kept=studies))


class Budget:
    """How many bytes of figures and images a page may still take, of which some are kept for the first of them.

    Example:
        >>> budget = Budget(10)
        >>> budget.allows("12345678"), budget.allows("12345678"), budget.left_out
        (True, False, 1)
    """

    def __init__(self, most: int, kept: int = 0) -> None:
        self.left = most
        self.kept = kept
        self.left_out = 0

    def allows(self, text: str, *, first: bool = False) -> bool:
        """Take a text if it fits, or count it as left out; what is kept is for those that come first."""
        size = len(text.encode())
        self.kept -= size if first else 0
        if size > self.left - max(self.kept, 0):
            self.left_out += 1
            return False
        self.left -= size
        return True


def anchor(*words: str | int) -> str:
    """Return a name for a place on the page.

    Example:
        >>> anchor("row", 1, 2)
        'row-1-2'
    """
    return "-".join(map(str, words))


def numbered(svg: str, number: int) -> str:
    """Give the names inside a figure a number, as the same figure may stand on a page twice.

    Example:
        >>> numbered('<path id="a"/><use href="#a"/>', 2)
        '<path id="a-2"/><use href="#a-2"/>'
    """
    return re.sub(r'((?: id="|href="#|url\(#)[^")]+)', rf"\g<1>-{number}", svg)


def as_yaml(values: Mapping[str, Any]) -> str:
    """Write settings as YAML, in their own order."""
    import yaml

    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vitask.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(yaml=as_yaml)
    environment.globals.update(anchor=anchor)
    return environment


def _drawer(budget: Budget) -> Callable[[str, bool], Markup | None]:
    """Return what puts a figure on the page if there is room; made here, from escaped texts, it is taken as it is."""
    from markupsafe import Markup

    numbers = count(1)
    return lambda svg, first: Markup(numbered(svg, next(numbers))) if budget.allows(svg, first=first) else None
