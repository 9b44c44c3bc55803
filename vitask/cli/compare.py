"""`vitask compare`."""

from __future__ import annotations

from pathlib import Path

from vitask.cli.help import print_help, wants_help
from vitask.errors import UsageError

EXAMPLES = """\
  vitask compare runs/digits/vanilla-seed0-12ab34cd runs/digits/crt-seed0-56ef7890
  vitask compare runs/digits/tsm-seed0-0a1b2c3d runs/digits/crt-seed0-56ef7890 exemplar=on split=val
  vitask compare runs/digits/vanilla-seed?-* with runs/digits/crt-seed?-*"""
USAGE = "write vitask compare RUN_A RUN_B, or for several seeds vitask compare RUN_A ... with RUN_B ..."


def main(arguments: list[str]) -> None:
    """Compare two runs, or two settings over several seeds, and print one table."""
    if wants_help(arguments):
        print_help(
            "compare",
            "Say how much better run B is than run A, and whether that may be chance. Two runs: over the same samples\n"
            "(McNemar's exact test of the accuracy; macro-F1 with the two runs' answers swapped sample by sample).\n"
            "Two settings, a run a seed: over the seeds (paired t-test). Of answers in words: exact match, token F1,\n"
            "how often the right response is ranked first, and its likelihood (swapped image by image). Intervals\n"
            "are those of the paired bootstrap. What is not evaluated yet is evaluated first.",
            EXAMPLES,
            usage="compare RUN_A RUN_B",
        )
        return
    overrides = [argument for argument in arguments if "=" in argument and not Path(argument).exists()]
    base, own = _sides([argument for argument in arguments if argument not in overrides])
    from vitask.config.compose import compose_config

    request = compose_config("compare", overrides)
    from vitask.runs.compare import compare

    print(compare(request, base, own))


def _sides(words: list[str]) -> tuple[list[str], list[str]]:
    """Split what was given into the runs of A and those of B."""
    if words.count("with") == 1:
        place = words.index("with")
        sides = words[:place], words[place + 1 :]
    else:
        sides = words[:1], words[1:]
        if len(words) != 2:
            raise UsageError(f"two runs are compared, got {len(words)}; {USAGE}")
    if not all(sides):
        raise UsageError(f"one side has no run; {USAGE}")
    return sides
