"""The tables of a report: what stands in which cell, before it becomes HTML, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from vitask.reporting.paper import TITLES
from vitask.reporting.study import MODES, Estimate, Result, Study, baselines, estimate

Metrics = Mapping[str, Any]
HEADLINE = {"accuracy": "accuracy", "macro-F1": "macro_f1", "AUC": "auc"}
WORDS = {"exact match": "exact_match", "token F1": "token_f1", "ranked first": "rank_accuracy"}
"""What answers in words have in the place of `HEADLINE`."""
FURTHER = {
    "MRR": "mrr",
    "perplexity": "perplexity",
    "balanced accuracy": "balanced_accuracy",
    "weighted F1": "weighted_f1",
    "accuracy per label": "label_accuracy",
    "average precision": "average_precision",
    "kappa": "kappa",
    "grade error": "mae",
    "log-likelihood": "log_likelihood",
    "Brier": "brier",
    "ECE": "ece",
    "free form, accuracy": "generated.accuracy",
    "free form, macro-F1": "generated.macro_f1",
    "free form, no label": "generated.invalid_rate",
    "VLM and TSM averaged, accuracy": "averaged.accuracy",
    "VLM and TSM averaged, macro-F1": "averaged.macro_f1",
    "pairs ranked rightly": "ranking.pairs_right",
    "AUC of pairs": "ranking.auc",
}
GIVEN = {"given rightly": (1, 1), "missed": (1, 0), "given wrongly": (0, 1)}
"""Cells of a confusion of no and yes: truth, answer."""
PER_CLASS = {"precision": "precision", "recall": "recall", "F1": "f1", "AUC": "auc"}


class Cell(NamedTuple):
    """A figure and, in smaller type, how sure it is."""

    text: str
    spread: str = ""


BLANK, NONE = Cell(""), Cell("-")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: what it shows.
        corner: what stands above the names of the rows.
        columns: each with the group that it belongs to ("" for none) and its name.
        rows: names and cells.
        note: what the reader has to know of the figures.
    """

    title: str
    corner: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    note: str = ""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The groups of the columns, with the number of columns that each spans."""
        return [(group, len(list(several))) for group, several in groupby(self.columns, lambda column: column[0])]


def cell(value: Estimate | None) -> Cell:
    """Show a figure with three decimals.

    Example:
        >>> cell(Estimate(0.5, sd=0.1, seeds=3)), cell(Estimate(0.5, None, 0.4, 0.6))
        (Cell(text='0.500', spread='± 0.100'), Cell(text='0.500', spread='[0.400, 0.600]'))
    """
    if value is None:
        return NONE
    if value.sd is not None:
        return Cell(f"{value.value:.3f}", f"± {value.sd:.3f}")
    return Cell(f"{value.value:.3f}", "" if value.low is None else f"[{value.low:.3f}, {value.high:.3f}]")


def headline_table(study: Study, evaluation: str) -> Table:
    """Lay out rows beside baselines: accuracy, macro-F1 and AUC, or those of answers in words, w/o and w/ exemplar."""
    own = (study.grid or {}).get("grid", {}).get("columns") or {}
    figures = {**HEADLINE, **WORDS, **{name: key for name, key in own.items() if key not in HEADLINE.values()}}
    modes = [mode for mode in study.modes(evaluation) if mode != "tsm"] or ["tsm"]
    columns = [
        (mode, name, key)
        for mode in modes
        for name, key in figures.items()
        if estimate(metrics_of(study.select(evaluation, mode=mode)), key)
    ]
    rows = [(name, _in_first_mode(metrics, columns)) for name, metrics in baselines(study, evaluation)]
    for row in study.rows:
        found = study.select(evaluation, row)
        if found and found[0].mode == "tsm":
            rows.append((row, _in_first_mode(metrics_of(found), columns)))
        elif found:
            by_mode = {mode: metrics_of(study.select(evaluation, row, mode)) for mode in modes}
            rows.append((row, [cell(estimate(by_mode[mode], key)) for mode, _, key in columns]))
    title = f"{study.title}: {evaluation}"
    heads = [(MODES.get(mode, mode), name) for mode, name, _ in columns]
    return Table(title, _corner(study, evaluation), heads, rows, _note(study, evaluation))


def further_table(study: Study, evaluation: str) -> Table | None:
    """Lay out calibration, free-form answers and what else was measured, a line a row and mode."""
    places = [(place_name(row, mode), metrics_of(found)) for row, mode, found in study.places(evaluation)]
    columns = {n: key for n, key in FURTHER.items() if any(estimate(metrics, key) for _, metrics in places)}
    if not columns:
        return None
    rows = [(name, [cell(estimate(metrics, key)) for key in columns.values()]) for name, metrics in places]
    return Table(f"Further figures: {evaluation}", _corner(study, evaluation), [("", n) for n in columns], rows)


def set_table(row: str, by_mode: Mapping[str, Sequence[Metrics]]) -> Table | None:
    """Lay out a mixture: a line a data set and their mean, the TSM beside.

    Args:
        row: what the figures are of.
        by_mode: the metrics of each mode, one a seed.
    """
    sets = list(
        dict.fromkeys(name for several in by_mode.values() for each in several for name in each.get("sets", {}))
    )
    if not sets:
        return None
    groups = [(MODES.get(mode, mode), several, "") for mode, several in by_mode.items()]
    if "tsm" not in by_mode:
        groups.insert(0, ("TSM", next(iter(by_mode.values())), "tsm."))
    rows = []
    for name in [*sets, None]:
        cells = []
        for _, several, inside in groups:
            metrics = several if name is None else [each.get("sets", {}).get(name) for each in several]
            cells += [cell(estimate(metrics, inside + key)) for key in HEADLINE.values()]
        rows.append(("mean" if name is None else TITLES.get(name, name), cells))
    return Table(f"{row}: data sets", "data set", [(group, name) for group, *_ in groups for name in HEADLINE], rows)


def class_table(title: str, by_mode: Mapping[str, Sequence[Metrics]]) -> Table | None:
    """Lay out precision, recall, F1 and AUC of every label.

    Args:
        title: what the figures are of.
        by_mode: the metrics of one data set in each mode, one a seed.
    """
    return _parts_table(title, by_mode, ("per_class", "label"), ("support", "images"), PER_CLASS)


def given_table(title: str, by_mode: Mapping[str, Sequence[Metrics]]) -> Table | None:
    """Count, where an image may have several labels, how often each was given rightly, wrongly, or missed.

    Those of several seeds are added up; the arguments are those of `class_table`.
    """
    known = {mode: [m["confusion_by_label"] for m in several if m.get("confusion_by_label")]
             for mode, several in by_mode.items()}  # fmt: skip
    known = {mode: several for mode, several in known.items() if several}
    if not known:
        return None
    rows = []
    for label in next(iter(known.values()))[0]:
        cells = []
        for several in known.values():
            tables = [each[label] for each in several]
            cells += [Cell(f"{sum(table[truth][answer] for table in tables):g}") for truth, answer in GIVEN.values()]
        rows.append((label, cells))
    columns = [(MODES.get(mode, mode), name) for mode in known for name in GIVEN]
    return Table(title, "label", columns, rows, "Images; of several seeds added up.")


def instruction_table(title: str, by_mode: Mapping[str, Sequence[Metrics]]) -> Table | None:
    """Lay out the figures of answers in words to every instruction; the arguments are those of `class_table`."""
    return _parts_table(title, by_mode, ("by_instruction", "instruction"), ("samples", "questions"), WORDS)


def _parts_table(
    title: str,
    by_mode: Mapping[str, Sequence[Metrics]],
    parts: tuple[str, str],
    counted: tuple[str, str],
    figures: Mapping[str, str],
) -> Table | None:
    """Lay out figures of every label or instruction: where they stand and what they are called, likewise the counts."""
    known = {mode: [m[parts[0]] for m in several if m.get(parts[0])] for mode, several in by_mode.items()}
    known = {mode: several for mode, several in known.items() if several}
    if not known:
        return None
    rows = []
    for name, own in next(iter(known.values()))[0].items():
        cells = [Cell(f"{own[counted[0]]:g}")]
        for several in known.values():
            cells += [cell(estimate([each.get(name) for each in several], key)) for key in figures.values()]
        rows.append((name, cells))
    columns = [("", counted[1]), *((MODES.get(mode, mode), title) for mode in known for title in figures)]
    return Table(title, parts[1], columns, rows)


def metrics_of(results: Sequence[Result]) -> list[Metrics]:
    """Return the metrics of results."""
    return [result.metrics for result in results]


def place_name(row: str, mode: str) -> str:
    """Name a row and mode in words.

    Example:
        >>> place_name("+ RDA", "on")
        '+ RDA, w/ EP'
    """
    return row if mode == "tsm" else f"{row}, {MODES.get(mode, mode)}"


def _in_first_mode(metrics: Sequence[Metrics], columns: Sequence[tuple[str, str, str]]) -> list[Cell]:
    """The figures of what knows no exemplar, in the columns of the first mode."""
    return [cell(estimate(metrics, key)) if mode == columns[0][0] else BLANK for mode, _, key in columns]


def _corner(study: Study, evaluation: str) -> str:
    metrics = study.select(evaluation)[0].metrics
    return f"{metrics.get('split', evaluation)}, n = {metrics['samples']}" if "samples" in metrics else evaluation


def _note(study: Study, evaluation: str) -> str:
    found = study.select(evaluation)
    seeds = list(dict.fromkeys(str(result.seed) for result in found))
    if len(seeds) > 1:
        said = f"Mean ± standard deviation over the seeds that a row has, of {', '.join(seeds)}."
    else:
        intervals = any(result.metrics.get("intervals") for result in found)
        said = f"One run a row, seed {seeds[0]}" + ("; in brackets the 95 % bootstrap interval." if intervals else ".")
    of_all = study.conditions
    own = {title: text for title, text in study.conditions_of(evaluation).items() if title not in of_all}
    for title, texts in study.exceptions(evaluation).items():
        own[title] = "; ".join(f"{text} ({', '.join(rows)})" for text, rows in texts.items())
    return " ".join([said, *(f"{title[:1].upper()}{title[1:]}: {text}." for title, text in own.items())])
