"""Tables as Markdown, LaTeX and CSV: laid out for people, and in full precision for programs."""

from __future__ import annotations

import csv
import io
import re

import pytest

from vitask.reporting.export import csv_figures, latex_escape, latex_tables, markdown_tables
from vitask.reporting.sections import study_section
from vitask.reporting.tables import Cell, Table

from .studies import HOSTILE, LABELS, metrics, mixture, study

TABLE = Table("A title", "corner", [("", "n"), ("w/o EP", "acc"), ("w/o EP", "F1")],
              [("a & b", [Cell("1"), Cell("0.500", "± 0.100"), Cell("-")])], "A note, 95 %.")  # fmt: skip


def test_markdown_has_title_table_and_note():
    assert markdown_tables([TABLE]).splitlines() == [
        "## A title",
        "",
        "| corner    | n |   w/o EP, acc | w/o EP, F1 |",
        "|-----------|--:|--------------:|-----------:|",
        "| a &amp; b | 1 | 0.500 ± 0.100 |          - |",
        "",
        "A note, 95 %.",
    ]


def test_latex_is_a_booktabs_table():
    assert latex_tables([TABLE]).splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{A title. A note, 95 \%.}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r" & \multicolumn{1}{c}{} & \multicolumn{2}{c}{w/o EP} \\",
        r"corner & n & acc & F1 \\",
        r"\midrule",
        r"a \& b & 1 & 0.500 $\pm$ 0.100 & - \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]


@pytest.mark.parametrize("text", [*LABELS, "a\\b{c}$d$&e#f%g_h~i^j<k>l|m", "{", "\\", "%\n\\end{table}"])
def test_no_text_is_a_command_of_latex(text):
    escaped = latex_escape(text)
    assert "\n" not in escaped
    bare = re.sub(
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl)\{\}", "", escaped
    )
    bare = bare.replace(r"$\pm$", "").replace(r"$\times$", "")
    bare = re.sub(r"\\[{}$&#%_]", "", bare)
    assert not re.search(r"[\\{}$&#%_~^<>|\"]", bare), bare


def test_latex_rows_have_as_many_cells_as_columns():
    section = study_section(study(), {})
    text = latex_tables(section.all_tables)
    for table in text.split(r"\begin{table}")[1:]:
        width = len(re.search(r"\\begin\{tabular\}\{(l*r*)\}", table)[1])
        body = table.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
        rows = [line for line in body.splitlines() if line]
        assert rows
        assert all(len(re.findall(r"(?<!\\)&", row)) == width - 1 for row in rows)


def test_csv_holds_every_figure_in_full_precision():
    rows = list(csv.DictReader(io.StringIO(csv_figures([study(seeds=(0,)), mixture()]))))
    (found,) = [
        r
        for r in rows
        if (r["row"], r["mode"], r["label"], r["metric"], r["study"][:7])
        == ("vanilla", "off", "", "accuracy", "A study")
    ]
    expected = metrics("off", 0)
    assert float(found["value"]) == expected["accuracy"]
    assert (float(found["low"]), float(found["high"])) == tuple(expected["intervals"]["accuracy"])
    assert (found["sd"], found["seeds"], found["evaluation"]) == ("", "1", "test")
    assert {r["label"] for r in rows} == {"", *LABELS, "a", "b"}
    assert {r["set"] for r in rows} == {"", "pathmnist", HOSTILE}
    (support,) = [r for r in rows if r["set"] == "pathmnist" and r["label"] == LABELS[0] and r["metric"] == "support"]
    assert float(support["value"]) == metrics("off", 3)["per_class"][LABELS[0]]["support"]


def test_csv_holds_what_stands_beside_every_vlm():
    rows = list(csv.DictReader(io.StringIO(csv_figures([study(seeds=(0,))]))))
    found = {r["row"]: float(r["value"]) for r in rows if r["mode"] == "" and r["metric"] == "accuracy"}
    assert found == {"TSM": 0.8, "majority class": 0.3}


def test_csv_of_several_seeds_has_mean_and_deviation():
    rows = list(csv.DictReader(io.StringIO(csv_figures([study()]))))
    found = next(r for r in rows if r["metric"] == "accuracy")
    values = [metrics("off", seed)["accuracy"] for seed in (0, 1)]
    assert float(found["value"]) == pytest.approx(sum(values) / 2)
    assert float(found["sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert (found["low"], found["seeds"]) == ("", "2")


def test_markdown_cannot_be_taken_for_html():
    text = markdown_tables(study_section(study(), {}).all_tables)
    assert "<" not in text
    assert "&lt;script&gt;" in text
