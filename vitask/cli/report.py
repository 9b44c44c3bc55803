"""`vitask report`."""

from __future__ import annotations

from pathlib import Path

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask report runs                                       every run and grid in there
  vitask report runs/digits/crt-seed0-... runs/digits/vanilla-seed0-... out=report
  vitask report runs/ablations/demo out=demo examples=0"""


def main(arguments: list[str]) -> None:
    """Write the report and print where it is."""
    if not arguments or wants_help(arguments):
        print_help(
            "report",
            "Write one self-contained page (report.html) and its tables (Markdown, LaTeX, CSV) from run folders, grid\n"
            "folders, or folders that hold some: figures beside baselines and the paper's, confusion, calibration,\n"
            "ranking, curves, examples, cost, settings, and what differs from the paper, in words.",
            EXAMPLES,
            usage="report FOLDER...",
        )
        return
    overrides = [argument for argument in arguments if "=" in argument and not Path(argument).exists()]
    folders = [argument for argument in arguments if argument not in overrides]
    from vitask.config.compose import compose_config

    request = compose_config("report", overrides)
    from vitask.runs.report import report

    folder = report(request, folders)
    print(f"{folder / 'report.html'}, tables.md, tables.tex, tables.csv")
