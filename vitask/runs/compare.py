"""`vitask compare`: paired tests of finished runs, over samples or over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.config.compose import compose_config
from vitask.errors import UsageError, VitaskError
from vitask.reporting.comparison import compare_answers, compare_seeds, read_answers, samples_table, seeds_table
from vitask.runs.evaluate import evaluate
from vitask.runs.evaluation_request import folder_name
from vitask.runs.identity import is_open_ended
from vitask.runs.tuned import finished_run

if TYPE_CHECKING:
    from vitask.config.schema import CompareConfig


def compare(request: CompareConfig, base: Sequence[str], own: Sequence[str]) -> str:
    """Compare runs and return the table; what is not evaluated yet is evaluated first.

    Args:
        request: split and mode.
        base: run A, or its runs, one a seed.
        own: run B, or its runs, with the same seeds.

    Raises:
        UsageError: there is no run, it cannot do what was asked, or the seeds do not fit.
        VitaskError: a run is not finished, or the runs were not evaluated on the same samples.
    """
    for run in (*base, *own):
        finished_run(run)
    pairs = [(base[0], own[0])] if len(base) == len(own) == 1 else _by_seed(base, own)
    found = [_compare_runs(request, *pair) for pair in pairs]
    if len(found) == 1:
        table = samples_table(request.split, found[0])
        images = next(iter(found[0].values())).get("images")
        tests = "McNemar's exact test for the accuracy, A and B swapped sample by sample for macro-F1"
        tests = f"A and B swapped image by image, over {images} images" if images else tests
        tests += "; intervals: paired bootstrap" + (" over images, whose questions stay together" if images else "")
    else:
        over = {name: compare_seeds([each[name] for each in found]) for name in found[0]}
        table, tests = seeds_table(request.split, over), "paired t-test over the seeds"
    sides = [f"{side}: {', '.join(runs)}" for side, runs in zip("AB", zip(*pairs, strict=True), strict=True)]
    return "\n".join([table, *sides, f"p: {tests}"])


def _by_seed(base: Sequence[str], own: Sequence[str]) -> list[tuple[str, str]]:
    """Pair runs of the same seed."""
    sides: list[dict[int, str]] = []
    for runs in (base, own):
        side: dict[int, str] = {}
        for run in runs:
            seed = finished_run(run)[1].seed
            if seed in side:
                raise UsageError(f"{side[seed]} and {run} both have seed {seed}; one side takes one run a seed")
            side[seed] = run
        sides.append(side)
    alone = {**sides[0], **sides[1]}.keys() - (sides[0].keys() & sides[1].keys())
    if alone:
        raise UsageError(f"seed {min(alone)} is on one side only; a paired test needs both runs of every seed")
    return [(sides[0][seed], sides[1][seed]) for seed in sorted(sides[0])]


def _compare_runs(request: CompareConfig, base: str, own: str) -> dict[str, dict[str, Any]]:
    """Compare two runs on each data set; the only one of a run has the name ''."""
    first, second = _evaluated(request, base), _evaluated(request, own)
    if first.keys() != second.keys():
        raise VitaskError(
            f"{base} was evaluated on {', '.join(first) or 'one set'}, {own} on {', '.join(second) or 'one set'}"
        )
    return {name: compare_answers(read_answers(first[name]), read_answers(second[name])) for name in first}


def _evaluated(request: CompareConfig, run: str) -> dict[str, Path]:
    """Evaluate a run if that is missing, and return where the predictions of each data set are."""
    generate = str(is_open_ended(finished_run(run)[1])).lower()
    options = [f"{key}={getattr(request, key)}" for key in ("split", "exemplar", "batch_size", "device")]
    asked = compose_config("evaluate", [f"run={run}", f"generate={generate}", *options])
    (metrics,) = evaluate(asked)
    folder = finished_run(run)[0].path / "eval" / folder_name(asked, metrics["mode"])
    return {name: folder / name for name in metrics["sets"]} if "sets" in metrics else {"": folder}
