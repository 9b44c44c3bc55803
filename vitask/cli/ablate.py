"""`vitask ablate`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help
from vitask.errors import UsageError

EXAMPLES = """\
  vitask ablate demo                               the table of the demo
  vitask ablate demo seeds=[0,1,2,3,4] split=val
  vitask ablate demo data.label_noise=0 out=runs/clean"""


def main(arguments: list[str]) -> None:
    """Run a grid and print its table."""
    if not arguments or wants_help(arguments):
        print_help(
            "ablation/base",
            "Run a grid of configs/ablation over seeds and print one table. Other keys override every run.",
            EXAMPLES,
            usage="ablate NAME",
        )
        return
    from vitask.config.compose import compose_ablation

    name, *rest = arguments
    if "=" in name:
        raise UsageError("give the name of a grid first: vitask ablate demo [key=value ...]")
    grid, overrides = compose_ablation(name, rest)
    from vitask.runs.ablate import ablate

    folder = ablate(name, grid, overrides)
    print((folder / "table.md").read_text(encoding="utf-8"), end="")
    print(f"\n{folder}/table.md, results.json")
