"""CITATION.cff: the keys that the Citation File Format 1.2.0 asks for, and the same facts as elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.architecture.sources import project
from vitask import __version__

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "CITATION.cff").read_text())
SOFTWARE = {
    *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact"),
    *("repository-code", "title", "type", "url", "version"),
}
REFERENCE = {"type", "title", "authors", "year", "journal", "identifiers", "url", "doi"}
PERSON, ENTITY = {"family-names", "given-names", "orcid", "affiliation"}, {"name", "website"}


def problems(file: dict) -> list[str]:
    """Say what of a file does not fit the format."""
    paper = file.get("preferred-citation", {})
    found = [f"{key} is missing" for key in ("cff-version", "message", "title", "authors") if not file.get(key)]
    found += [f"{key} is missing in the preferred citation" for key in ("type", "title", "authors") if key not in paper]
    found += [f"{key} is no key" for key in sorted(set(file) - SOFTWARE) + sorted(set(paper) - REFERENCE)]
    for person in [*file.get("authors", []), *paper.get("authors", [])]:
        if not (set(person) <= PERSON or (set(person) <= ENTITY and "name" in person)):
            found.append(f"{person} is neither a person nor an entity")
    if file.get("type", "software") not in ("software", "dataset"):
        found.append("type")
    return found


def test_it_fits_the_format():
    assert problems(FILE) == []
    assert FILE["cff-version"] == "1.2.0"


@pytest.mark.parametrize(
    "change",
    [{"title": ""}, {"pages": 3}, {"type": "article"}, {"authors": [{"nam": "x"}]}, {"preferred-citation": {}}],
)
def test_the_check_can_fail(change):
    assert problems({**FILE, **change})


def test_version_and_licence_are_the_package_s():
    known = project()["project"]
    assert FILE["version"] == known["version"] == __version__
    assert FILE["license"] == known["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]


def test_the_paper_is_the_readme_s():
    paper, readme = FILE["preferred-citation"], (ROOT / "README.md").read_text()
    assert f"title   = {{{paper['title']}}}" in readme
    names = [f"{person['family-names']}, {person['given-names']}" for person in paper["authors"]]
    assert f"author  = {{{' and '.join(names)}}}" in readme
    assert paper["year"] == int(re.search(r"year    = \{(\d+)\}", readme)[1])
    assert paper["url"] in readme


def test_the_changelog_names_the_version():
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
