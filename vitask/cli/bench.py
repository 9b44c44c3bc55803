"""`vitask bench`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask bench                                     two minutes on two CPU cores
  vitask bench size=internvl2_2b device=meta       FLOPs and saved bytes in the paper's size, counted without computing
  vitask bench size=internvl2_2b device=cuda       the paper's size in bfloat16, with throughput until memory is full"""


def main(arguments: list[str]) -> None:
    """Measure, print the tables and write the JSON."""
    if wants_help(arguments):
        print_help(
            "bench",
            "Measure what training and scoring cost beside plain tuning: time, FLOPs, memory. Weights and images are\n"
            "random; before anything is timed, the losses of all forms of a step are checked against each other.",
            EXAMPLES,
        )
        return
    from vitask.config.compose import compose_config

    config = compose_config("bench", arguments)
    from vitask.bench.report import report
    from vitask.bench.run import bench

    print(report(bench(config)))
    print(f"\n{config.out}")
