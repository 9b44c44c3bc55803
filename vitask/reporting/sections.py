"""The sections of a report, filled with tables, figures and sentences, before they become a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitask.reporting.ablation import ablation_figure
from vitask.reporting.beside import paper_table
from vitask.reporting.contrasts import contrast_tables
from vitask.reporting.cost import cost_table
from vitask.reporting.details import Picture, row_pictures, row_tables, training_pictures
from vitask.reporting.deviations import deviations, open_choices
from vitask.reporting.examples import ShownExamples
from vitask.reporting.figures import bar_figure
from vitask.reporting.retention import retention_tables
from vitask.reporting.study import MODES, RunRecord, Study, baselines, estimate
from vitask.reporting.tables import Table, further_table, headline_table, metrics_of

DETAILED = 12
"""Rows of a study that are shown in detail; the others stand in the tables alone."""


@dataclass(frozen=True)
class RowSection:
    """One row in detail.

    Attributes:
        name: of the row.
        runs: its run folders, one a seed, if they are known.
        tables: by data set and label.
        pictures: of its answers, and of its training.
        examples: what the exemplar changed.
    """

    name: str
    runs: Sequence[RunRecord]
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    examples: ShownExamples | None


@dataclass(frozen=True)
class StudySection:
    """One study on the page.

    Attributes:
        study: what it is about.
        tables: headline, differences and what the paper reports.
        further: tables of what else was measured, and cost.
        pictures: of the whole study.
        deviations: sentences, and of which rows they hold, in words; nothing if of every row.
        choices: likewise, where the paper leaves a choice.
        rows: each in detail.
    """

    study: Study
    tables: Sequence[Table]
    further: Sequence[Table]
    pictures: Sequence[Picture]
    deviations: Sequence[tuple[str, str]]
    choices: Sequence[tuple[str, str]]
    rows: Sequence[RowSection]

    @property
    def all_tables(self) -> list[Table]:
        """Every table, in the order of the page."""
        return [*self.tables, *self.further, *(table for row in self.rows for table in row.tables)]


def study_section(study: Study, examples: Mapping[str, ShownExamples]) -> StudySection:
    """Fill the section of a study.

    Args:
        study: what was found.
        examples: by row, where there are any.
    """
    tables = [headline_table(study, evaluation) for evaluation in study.evaluations]
    tables += list(contrast_tables(study))
    tables += [table for evaluation in study.evaluations if (table := paper_table(study, evaluation))]
    further = [further_table(study, evaluation) for evaluation in study.evaluations]
    further += [*retention_tables(study), cost_table(study)]
    said = {row: deviations(runs[0].config, runs[0].weights) for row, runs in study.runs.items()}
    chosen = {row: open_choices(runs[0].config, runs[0].weights) for row, runs in study.runs.items()}
    rows = [
        RowSection(
            row,
            study.runs.get(row, ()),
            [table for evaluation in study.evaluations for table in row_tables(study, row, evaluation)],
            [
                *(picture for evaluation in study.evaluations for picture in row_pictures(study, row, evaluation)),
                *training_pictures(study.runs.get(row, ())),
            ],
            examples.get(row),
        )
        for row in study.rows[:DETAILED]
    ]
    further = [table for table in further if table]
    return StudySection(study, tables, further, list(_pictures(study)), merged(said), merged(chosen), rows)


def _pictures(study: Study) -> Iterator[Picture]:
    """Yield the figure that a grid asks for, or else the accuracies of the rows."""
    figure = ablation_figure(study.grid["grid"], study.grid["results"]) if study.grid else None
    if figure:
        yield Picture(figure, f"{study.title}.", wide=True)
        return
    for evaluation in study.evaluations[:1]:
        for title, key in (("accuracy", "accuracy"), ("exact match", "exact_match")):
            groups = figures_by_mode(study, evaluation, key)
            if len({name for values in groups.values() for name in values}) > 1:
                spread = ", with one standard deviation over seeds" if any(map(_has_spread, groups.values())) else ""
                yield Picture(bar_figure(groups, title), f"{title.capitalize()}, {evaluation}{spread}.", wide=True)


def figures_by_mode(study: Study, evaluation: str, key: str) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Return mean and spread of a figure by mode and row, the TSM's beside those of the VLM."""
    found = [("TSM", name, metrics) for name, metrics in baselines(study, evaluation) if name.startswith("TSM")]
    found += [(MODES.get(mode, mode), row, metrics_of(several)) for row, mode, several in study.places(evaluation)]
    groups: dict[str, dict[str, tuple[float, float | None]]] = {}
    for series, row, metrics in found:
        if (known := estimate(metrics, key)) is not None:
            groups.setdefault(series, {})[row] = (known.value, known.sd)
    return groups


def _has_spread(values: Mapping[str, tuple[float, float | None]]) -> bool:
    return any(sd is not None for _, sd in values.values())


def merged(by_row: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Say each sentence once, with the rows that it holds for unless it holds for all.

    Example:
        >>> merged({"vanilla": ["Small."], "+ RDA": ["Small.", "Slow."], "+ CRT": ["Small."]})
        [('Small.', ''), ('Slow.', '+ RDA')]
    """
    holds: dict[str, list[str]] = {}
    for row, texts in by_row.items():
        for text in texts:
            holds.setdefault(text, []).append(row)
    return [(text, _rows_in_words(rows, list(by_row))) for text, rows in holds.items()]


def _rows_in_words(rows: Sequence[str], every: Sequence[str]) -> str:
    others = [row for row in every if row not in rows]
    if not others:
        return ""
    return f"all but {', '.join(others)}" if len(others) < len(rows) else ", ".join(rows)


def settings_of(run: RunRecord) -> dict[str, Any]:
    """Return what a reader needs to know of a run besides its settings: versions, data, steps."""
    environment, summary = run.environment, run.summary
    data = environment.get("data", {})
    return {
        "folder": str(run.path),
        "stage": run.stage,
        "seed": run.seed,
        "steps": summary.get("steps"),
        "loss terms": ", ".join(f"{term} {weight:g}" for term, weight in run.weights.items() if weight),
        "data": data.get("name"),
        "fingerprint": data.get("fingerprint"),
        "python": environment.get("python"),
        **(environment.get("versions") or {}),
        "platform": environment.get("platform"),
    }
