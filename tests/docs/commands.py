"""The commands and programs that a page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def spans(page: str) -> list[str]:
    """The code spans outside code blocks, with a table's escaped bars as they are meant."""
    text = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    return [span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", text)]


def commands(page: str) -> list[tuple[str, ...]]:
    """Every command of a page, as words: the lines of its bash blocks, and its code spans that begin with a program."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    programs = ("vitask ", "torchrun ", "accelerate launch", "python ", "bash ", "... ")
    lines += [span for span in spans(page) if span.startswith(programs)]
    found = [tuple(shlex.split(line, comments=True)) for line in lines]
    return list(dict.fromkeys(words for words in found if words))


def options(page: str) -> list[tuple[str, ...]]:
    """The overrides in the code spans of a page's tables, as words."""
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| "))
    given = [re.sub(r"<[^>]*>", "x", span) for span in spans(rows)]
    found = [tuple(shlex.split(span)) for span in given if re.match(r"'?[a-z_.]+=\S", span)]
    return list(dict.fromkeys(found))
