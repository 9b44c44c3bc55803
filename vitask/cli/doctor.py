"""`vitask doctor`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vitask.cli.help import print_help, wants_help

if TYPE_CHECKING:
    from vitask.runs.doctor import Diagnosis

EXAMPLES = """\
  vitask doctor                                    the whole pipeline on the embedded default
  vitask doctor stage=crt data=medmnist data.name=dermamnist data.root=~/medmnist
  vitask doctor experiment=paper_derma data.root=~/medmnist"""
STYLES = {
    "ok": "green",
    "note": "yellow",
    "wrong": "bold red",
    "exemplar": "bold magenta",
    "response": "bold green",
}
WORDS = {"exemplar": "<<exemplar {}>>", "response": "=> {}"}
"""Exemplar and response are marked by words too, for a terminal without colours."""


def main(arguments: list[str]) -> None:
    """Examine a run, print one line a finding, and exit with 1 when one is wrong."""
    if wants_help(arguments):
        print_help(
            "train",
            "Check a run before it starts, in seconds, and write nothing of it. Overrides as for vitask train.\n"
            "One batch goes through every stage: does the image reach the model, does the exemplar, does exactly what\n"
            "should train get gradients? Says what the run will take. Exits with 1 when something is wrong.",
            EXAMPLES,
            usage="doctor",
        )
        return
    from vitask.config.compose import compose_config

    config = compose_config("train", arguments)
    from vitask.runs.doctor import examine

    diagnosis = examine(config)
    _show(diagnosis)
    if diagnosis.wrong:
        sys.exit(1)


def _show(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for pieces in dict.fromkeys(map(tuple, diagnosis.sequences.values())):
        stages = [stage for stage, own in diagnosis.sequences.items() if tuple(own) == pieces]
        words = [(WORDS.get(kind, "{}").format(text), STYLES.get(kind, "")) for kind, text in pieces]
        console.print(Text(" ").join([Text(f"{', '.join(stages)}:", "bold"), *(Text(*word) for word in words)]))
    table = Table("", "check", "finding", box=None, pad_edge=False)
    for finding in diagnosis.findings:
        table.add_row(Text(finding.state, STYLES[finding.state]), Text(finding.check), Text(finding.text))
    console.print(table)
    count = len(diagnosis.wrong)
    console.print(f"{count} of {len(diagnosis.findings)} findings are wrong" if count else "nothing is wrong")
