"""`vitask report`: one page and its tables from finished runs and grids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError, VitaskError
from vitask.reporting.export import csv_figures, latex_tables, markdown_tables
from vitask.reporting.html import Page, render
from vitask.reporting.missing import Note, evaluate_command, missing_of
from vitask.reporting.sections import study_section
from vitask.reporting.study import RunRecord, Study
from vitask.runs.folder import read_json, write_texts
from vitask.runs.report_folders import GRID, Shelf, find, grid_results
from vitask.runs.report_images import Gallery
from vitask.runs.report_rows import studies_of

if TYPE_CHECKING:
    from vitask.config.schema import ReportConfig

REPORT, MARKDOWN, LATEX, FIGURES = "report.html", "tables.md", "tables.tex", "tables.csv"


def report(request: ReportConfig, folders: Sequence[str]) -> Path:
    """Write `report.html`, `tables.md`, `tables.tex` and `tables.csv`.

    Args:
        request: where to, and how many examples.
        folders: run folders, grid folders, or folders that hold some.

    Returns:
        The folder of the report.

    Raises:
        UsageError: there is nothing to report.
    """
    if not folders:
        raise UsageError("give folders that vitask train or vitask ablate wrote: vitask report runs")
    run_folders, grid_folders = find(folders)
    shelf = Shelf(run_folders)
    grids = [study for folder in grid_folders if (study := grid_study(folder, shelf))]
    own = [run for folder in run_folders if (run := shelf.run(folder))]
    inside = {run.path.resolve() for study in grids for runs in study.runs.values() for run in runs}
    taken = _prerequisites(run for study in grids for runs in study.runs.values() for run in runs)
    loose = [run for run in own if run.path.resolve() not in inside | taken]
    studies = [*grids, *(study for study in studies_of(loose, shelf) if study.results)]
    notes = [*shelf.notes, *_not_evaluated(loose, studies)]
    if not studies:
        raise UsageError(f"{', '.join(folders)}: nothing is evaluated; {_first_command(notes)}")
    gallery = Gallery(request.examples)
    sections = [study_section(study, gallery.examples(study)) for study in studies]
    page = Page(
        title="Report",
        sources=list(folders),
        made=f"Made on {datetime.now():%d %B %Y, %H:%M} by vitask {version('vitask')}.",
        studies=sections,
        runs=_all_runs(studies),
        missing=[*notes, *(note for study in studies for note in missing_of(study))],
    )
    tables = [table for section in sections for table in section.all_tables]
    target = Path(request.out).expanduser()
    texts = {
        MARKDOWN: markdown_tables(tables),
        LATEX: latex_tables(tables),
        FIGURES: csv_figures(studies),
        REPORT: render(page),
    }
    target.mkdir(parents=True, exist_ok=True)
    write_texts({target / name: text for name, text in texts.items()})
    return target


def grid_study(folder: Path, shelf: Shelf) -> Study | None:
    """Read a grid and those of its runs that are beside it; none, with a note, if it is damaged."""
    try:
        found = read_json(folder / GRID)
        names = {m.get("run", "") for rows in found["results"].values() for several in rows.values() for m in several}
        paths = {path.name: path for path in folder.resolve().parent.parent.glob("*/*") if path.name in names}
        runs = {name: run for name, path in paths.items() if (run := shelf.run(path))}
        results = list(grid_results(found, runs))
        if not results:
            raise VitaskError(f"{folder / GRID}: it holds no result")
        grid = found["grid"]
        return Study(str(grid["title"]), str(grid.get("conditions") or ""), results, _by_row(found, runs), found)
    except (VitaskError, KeyError, TypeError, AttributeError, ValueError) as error:
        shelf.leave_out(folder / GRID, f"left out, damaged or of another version: {error}.")
        return None


def _by_row(found: Mapping[str, Any], runs: Mapping[str, RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each row of a grid, one a seed."""
    by_row: dict[str, dict[str, RunRecord]] = {}
    for rows in found["results"].values():
        for row, several in rows.items():
            for metrics in several:
                if (run := runs.get(metrics.get("run", ""))) is not None:
                    by_row.setdefault(row, {})[run.name] = run
    return {row: list(known.values()) for row, known in by_row.items()}


def _not_evaluated(loose: Sequence[RunRecord], studies: Sequence[Study]) -> list[Note]:
    """Name the runs without an evaluation, but for those that another run started from."""
    shown = {run.path.resolve() for study in studies for runs in study.runs.values() for run in runs}
    silent = [run for run in loose if run.path.resolve() not in shown | _prerequisites(loose)]
    return [Note(f"{run.path} is not evaluated.", evaluate_command(run)) for run in silent]


def _prerequisites(runs: Iterable[RunRecord]) -> set[Path]:
    """The folders of what runs started from: earlier stages and TSMs."""
    found = set()
    for run in runs:
        found |= {path.resolve() for path in (run.tsm, *(each.path for each in run.earlier)) if path != run.path}
    return found


def _all_runs(studies: Sequence[Study]) -> list[RunRecord]:
    """Every run of the studies, earlier stages before what starts from them."""
    found: dict[str, RunRecord] = {}
    for study in studies:
        for runs in study.runs.values():
            for run in runs:
                found |= {each.name: each for each in (*run.earlier, run)}
    return list(found.values())


def _first_command(notes: Sequence[Note]) -> str:
    said = next((note.text for note in notes), "train and evaluate a run first")
    return next((note.command for note in notes if note.command), said)
