"""`vitask data`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitask.cli.help import print_help, wants_help
from vitask.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vitask.runs.inspect import Inspection

ACTIONS = ("inspect",)
EXAMPLES = """\
  vitask data inspect                                             the embedded default
  vitask data inspect data=digits4                                four sets, one of each kind of task
  vitask data inspect data=medmnist data.name=dermamnist data.root=~/medmnist
  vitask data inspect data=image_folder data.root=photos data.modality=leaf
  vitask data inspect data=table data.path=labels.csv data.columns.group=patient
  vitask data inspect data=instructions data.path=questions.jsonl
  vitask data inspect data=hub data.path=ylecun/mnist data.modality='handwritten digit'"""


def main(arguments: list[str]) -> None:
    """Look at a data set before training on it."""
    if not arguments or wants_help(arguments):
        print_help(
            "data/base",
            "Counts per split and class, image sizes, an example in the VLM's tokens, duplicates, warnings, pictures.\n"
            "Converts the images once, as training would. Keys as for `vitask train`; those below begin with 'data.'.",
            EXAMPLES,
            usage="data inspect",
        )
        return
    action, *overrides = arguments
    if action not in ACTIONS:
        near = did_you_mean(action, ACTIONS)
        raise UsageError(f"data: no action '{action}'.{near} Write vitask data inspect data=... [key=value ...]")
    from vitask.config.compose import compose_config

    config = compose_config("train", overrides)
    from vitask.runs.inspect import inspect_data

    for inspection in inspect_data(config):
        _show(inspection)


def _show(inspection: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{inspection.name}: {inspection.kind}; fingerprint {inspection.fingerprint[:12]}")
    table = Table(inspection.counted, *(f"{split}, n = {total}" for split, total in inspection.splits.items()))
    for column in table.columns[1:]:
        column.justify = "right"
    for label, counts in inspection.counts.items():
        table.add_row(Text(label), *(_share(counts[split], total) for split, total in inspection.splits.items()))
    console.print(table)
    if inspection.sizes:
        console.print(f"images:      {inspection.sizes}")
    console.print(f"instruction: {inspection.instruction}")
    console.print(f"response:    {inspection.response}   (of {inspection.sample})")
    console.print(f"tokens:      {inspection.tokens}")
    console.print(f"pictures:    {inspection.sheet}")
    for warning in inspection.warnings:
        console.print(f"note:        {warning}")


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.0f} %)" if total else "0"
