"""`vitask ablate`."""

from __future__ import annotations

from textwrap import fill

from vitask.cli.help import print_help, wants_help
from vitask.errors import UsageError

EXAMPLES = """\
  vitask ablate demo                               the table of the demo
  vitask ablate table2 seeds=[0,1,2,3,4] split=val
  vitask ablate fig2 data.label_noise=0 out=runs/clean
  vitask ablate table2 experiment=paper_derma data.root=~/medmnist
  vitask ablate sweep objective.alpha=0.3,1,3 exemplar.position=after_image,before_assistant
  vitask ablate table2 "evaluations.test.options=['ranking=true']" split=val"""
PAPER = ("table1", "table2", "table3", "table3_paper", "fig2", "fig3", "fig4", "fig5")


def _grids() -> str:
    """Name the grids that there are, one's own among them."""
    from vitask.config.keys import groups

    others = [name for name in groups()["ablation"] if name not in PAPER]
    text = f"The paper's: {' '.join(PAPER)} (table3_paper: on its own sets). Beyond it: {' '.join(others)}."
    return fill(text, 100, break_on_hyphens=False)


def main(arguments: list[str]) -> None:
    """Run a grid and print its table."""
    if not arguments or wants_help(arguments):
        print_help(
            "ablation/base",
            "Run a grid of configs/ablation over seeds; write table.md, results.json and, where the grid has one,\n"
            "figure.svg. What is finished is not repeated, what was killed resumes. Other keys override every run; a\n"
            "key with several values (a,b) gives every row once for each.",
            f"{EXAMPLES}\n\n{_grids()}",
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
