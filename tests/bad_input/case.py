"""What a case of bad input is, and what is asked of each: one line, the right code, and a folder left as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """One thing that a user may get wrong.

    Attributes:
        words: the command line; names in braces are places, `{tmp}` for example.
        code: of the end.
        texts: that the one line holds.
        spoil: changes the folder before the call.
    """

    words: str
    code: int
    texts: tuple[str, ...]
    spoil: Callable[..., None] = lambda *_: None


def bad(words: str, code: int, *texts: str, spoil: Callable[..., None] = lambda *_: None) -> Case:
    return Case(words, code, texts, spoil)


def content(folder: Path) -> dict[str, str]:
    """What is in a folder: a digest of every file; a folder without files is nothing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check(case: Case, cli, folder: Path, **places) -> None:
    """Call a case and hold its end against what is expected."""
    before = content(folder)
    words = [word.format(**places) if "{" in word else word for word in case.words.split(" | ")]
    assert cli(*words).refuses(case.code, *case.texts)
    assert content(folder) == before


def check_run(case: Case, cli, runs: Mapping[str, Any]) -> None:
    """The same for a case about the runs of a pipeline; `{settings}` are the overrides that find them."""
    case.spoil(runs)
    words = case.words.replace("{settings}", runs["settings"]).removesuffix(" | ")
    check(bad(words, case.code, *case.texts), cli, runs["tmp"], **runs)


def write(name: str, data: bytes | str) -> Callable[[Path], None]:
    """Write a file of the folder."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return spoil
