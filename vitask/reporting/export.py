"""The tables of a report as Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from vitask.files import csv_text
from vitask.reporting.study import Study, baselines, estimate
from vitask.reporting.table import markdown
from vitask.reporting.tables import FURTHER, HEADLINE, WORDS, Cell, Table

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "×": r"$\times$", "“": "``", "”": "''",
    "α": r"$\alpha$", "β": r"$\beta$",
}  # fmt: skip
COLUMNS = ("study", "evaluation", "row", "mode", "set", "label", "metric", "value", "sd", "low", "high", "seeds")


def markdown_tables(tables: Sequence[Table]) -> str:
    """Write tables as Markdown, each below its title.

    Example:
        >>> print(markdown_tables([Table("Dots", "", [("w/o EP", "accuracy")], [("vanilla", [Cell("0.5")])])]))
        ## Dots
        <BLANKLINE>
        |         | w/o EP, accuracy |
        |---------|-----------------:|
        | vanilla |              0.5 |
        <BLANKLINE>
    """
    parts = []
    for table in tables:
        header = [table.corner, *(", ".join(filter(None, column)) for column in table.columns)]
        rows = [[name, *map(_in_line, cells)] for name, cells in table.rows]
        shown = markdown([_plain(text) for text in header], [[_plain(text) for text in row] for row in rows])
        parts += [f"## {_plain(table.title)}", shown, *([_plain(table.note)] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def latex_tables(tables: Sequence[Table]) -> str:
    r"""Write tables for `\usepackage{booktabs}`, each in a `table` of its own."""
    return "\n".join(line for table in tables for line in _latex_table(table)) + "\n"


def latex_escape(text: str) -> str:
    r"""Let a text stand for itself in LaTeX.

    Example:
        >>> latex_escape("50 % & more")
        '50 \\% \\& more'
    """
    return "".join(LATEX.get(letter, letter) for letter in _one_line(text))


def csv_figures(studies: Sequence[Study]) -> str:
    """Write every figure in full precision, a line each: of whole evaluations, data sets, labels, instructions.

    `value` is the mean over `seeds`; `sd` their standard deviation, or `low` and `high` the bootstrap interval.
    """
    lines = [COLUMNS]
    for study in studies:
        for evaluation in study.evaluations:
            places = [(row, mode, [each.metrics for each in found]) for row, mode, found in study.places(evaluation)]
            for row, mode, metrics in places + [(name, "", known) for name, known in baselines(study, evaluation)]:
                lines += [[study.title, evaluation, row, mode, *line] for line in _figures(metrics)]
    return csv_text(lines)


def _latex_table(table: Table) -> Iterator[str]:
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{latex_escape(' '.join(filter(None, [table.title + '.', table.note])))}}}"
    yield rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}"
    yield r"\toprule"
    if any(group for group, _ in table.groups):
        spans = [rf"\multicolumn{{{width}}}{{c}}{{{latex_escape(group)}}}" for group, width in table.groups]
        yield " & ".join(["", *spans]) + r" \\"
    yield " & ".join(map(latex_escape, [table.corner, *(name for _, name in table.columns)])) + r" \\"
    yield r"\midrule"
    for name, cells in table.rows:
        yield " & ".join(map(latex_escape, [name, *map(_in_line, cells)])) + r" \\"
    yield from (r"\bottomrule", r"\end{tabular}", r"\end{table}", "")


def _figures(metrics: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """Lines of one row and mode: data set, label, metric, and its estimate."""
    keys = [*HEADLINE.values(), *WORDS.values(), *FURTHER.values()]
    yield from _lines("", "", metrics, keys)
    parts = [("", metrics)] + [
        (name, [each.get("sets", {}).get(name, {}) for each in metrics]) for name in metrics[0].get("sets", {})
    ]
    for name, several in parts:
        if name:
            yield from _lines(name, "", several, keys)
        for label in several[0].get("per_class") or {}:
            of_label = [(each.get("per_class") or {}).get(label) for each in several]
            yield from _lines(name, label, of_label, ("precision", "recall", "f1", "auc", "support"))
    for asked in metrics[0].get("by_instruction") or {}:
        of_asked = [(each.get("by_instruction") or {}).get(asked) for each in metrics]
        yield from _lines("", asked, of_asked, (*WORDS.values(), "mrr", "perplexity", "samples"))


def _lines(
    name: str, label: str, metrics: Sequence[Mapping[str, Any] | None], keys: Sequence[str]
) -> Iterator[list[Any]]:
    for key in keys:
        if (found := estimate(metrics, key)) is not None:
            yield [name, label, key, *("" if value is None else value for value in found)]


def _in_line(cell: Cell) -> str:
    return f"{cell.text} {cell.spread}".strip()


def _plain(text: str) -> str:
    """One line that no reader of Markdown takes for HTML."""
    return escape(_one_line(text), quote=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())
