"""What a report could show and cannot, and which command would make it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vitask.reporting.deviations import parts_of
from vitask.reporting.open_ended import is_open
from vitask.reporting.study import Result, RunRecord, Study

WITHOUT_EXEMPLAR = ("off", "untuned")


class Note(NamedTuple):
    """Something that is missing, and the command that makes it, if there is one."""

    text: str
    command: str = ""


class Part(NamedTuple):
    """A part of the report that an evaluation may lack."""

    name: str
    options: str
    concerns: Callable[[Result], bool]
    has: Callable[[Result], bool]
    answers: bool = False  # a linear head gives none


PARTS = (
    Part(
        "figures by label, confusion, reliability",
        "overwrite=true",
        lambda r: not is_open(r.metrics),
        lambda r: _has(r, "per_class"),
    ),
    Part("free answers", "generate=true", lambda r: is_open(r.metrics), lambda r: "exact_match" in r.metrics),
    Part(
        "free-form answers, so no share of them that is no label",
        "generate=true",
        lambda r: not is_open(r.metrics) and r.mode in WITHOUT_EXEMPLAR,
        lambda r: _has(r, "generated"),
        answers=True,
    ),
    Part("bootstrap intervals", "overwrite=true", lambda r: True, lambda r: _has(r, "intervals")),
    Part(
        "ranking densities",
        "ranking=true",
        lambda r: r.mode in WITHOUT_EXEMPLAR,
        lambda r: _has(r, "pairs"),
        answers=True,
    ),
)


def missing_of(study: Study) -> Iterator[Note]:
    """Yield what a study lacks, each with the command for the first run that lacks it."""
    if study.grid and not study.runs:
        yield Note(f"{study.title}: its runs are not beside it, so settings, curves, costs and examples are left out.")
    heads = {row for row, runs in study.runs.items() if any(run.stage == "head" for run in runs)}
    for part in PARTS:
        able = [result for result in study.results if not part.answers or result.row not in heads]
        concerned = [result for result in able if part.concerns(result)]
        if concerned and not any(map(part.has, concerned)):
            yield Note(f"{study.title}: no {part.name}.", _command(study, concerned[0], part.options))
    for row, runs in study.runs.items():
        modes = {result.mode for result in study.results if result.row == row}
        if modes == {"off"} and "exemplar" in parts_of(runs[0].config, runs[0].weights):
            yield Note(f"{row} is not evaluated with the exemplar.", evaluate_command(runs[0], "exemplar=on"))
    if study.runs and not any(run.summary.get("cost") for runs in study.runs.values() for run in runs):
        yield Note(f"{study.title}: its runs recorded no cost.")


def evaluate_command(run: RunRecord, *options: str) -> str:
    """Return the command that evaluates a run."""
    return shlex.join(["vitask", "evaluate", f"run={run.path}", *options])


def _has(result: Result, key: str) -> bool:
    parts = [result.metrics, *result.metrics.get("sets", {}).values()]
    return any(part.get(key) for part in parts)


def _command(study: Study, result: Result, options: str) -> str:
    run = next((run for run in study.runs.get(result.row, ()) if run.seed == result.seed), None)
    return evaluate_command(run, f"split={result.metrics.get('split', 'test')}", options) if run else ""
