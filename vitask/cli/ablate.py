"""`vitask ablate`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help
from vitask.errors import UsageError

EXAMPLES = """\
  vitask ablate demo                               the table of the demo
  vitask ablate table2 seeds=[0,1,2,3,4] split=val
  vitask ablate fig2 data.label_noise=0 out=runs/clean
  vitask ablate table2 experiment=paper_derma data.root=~/medmnist
  vitask ablate sweep objective.alpha=0.3,1,3 exemplar.position=after_image,before_assistant
  vitask ablate table2 evaluations.test.options=[ranking=true]

The paper's: table1 table2 table3 (its own sets: table3_paper) fig2 fig3 fig4 fig5; beyond it: controls closed_set"""


def main(arguments: list[str]) -> None:
    """Run a grid and print its table."""
    if not arguments or wants_help(arguments):
        print_help(
            "ablation/base",
            "Run a grid of configs/ablation over seeds; write table.md, results.json and, where the grid has one,\n"
            "figure.svg. What is finished is not repeated, what was killed resumes. Other keys override every run; a\n"
            "key with several values (a,b) gives every row once for each.",
            EXAMPLES,
            usage="ablate NAME",
        )
        return
    from vitask.config.grid import compose_grid

    name, *rest = arguments
    if "=" in name:
        raise UsageError("give the name of a grid first: vitask ablate demo [key=value ...]")
    grid, overrides = compose_grid(name, rest)
    from vitask.runs.ablate import ablate

    folder = ablate(name, grid, overrides)
    print((folder / "table.md").read_text(encoding="utf-8"), end="")
    print(f"\n{folder}: {', '.join(sorted(path.name for path in folder.iterdir() if path.suffix != '.log'))}")
