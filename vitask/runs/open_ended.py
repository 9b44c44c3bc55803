"""Open-ended runs: what needs labels is refused, and samples without a negative are counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitask.config.build import build_negatives
from vitask.data import NO_NEGATIVE, instruction_ids
from vitask.errors import UsageError
from vitask.runs.identity import CLOSED_SET, WEIGHTS, is_head, is_open_ended, needs_tsm, term_weights, with_hint

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.data import TaskData

FROZEN = "take a frozen encoder, tsm=frozen_dinov2 or any timm model with tsm.tune=none, or vectors, exemplar.table=..."


def check_open_ended(config: Config, stages: Sequence[Config]) -> None:
    """Raise a `UsageError` if stages want labels and the data has none, or options of responses and it has labels."""
    if not is_open_ended(config):
        if config.objective.crt.max_overlap is not None:
            raise UsageError(
                "objective.crt.max_overlap: compares responses in words, of data=instructions; leave it null"
            )
        return
    for setting, remedy in _needing_labels(config, stages):
        raise UsageError(f"{setting}: needs labels, and data=instructions has responses in words; {remedy}")


def require_labels(config: Config, what: str, remedy: str) -> None:
    """Raise a `UsageError` if a run has no labels, for what is made of labels."""
    if is_open_ended(config):
        raise UsageError(f"{what}: the run answers in words (data=instructions) and has no labels; {remedy}")


def left_out_by_crt(config: Config, task: TaskData) -> str | None:
    """Say how many samples of an open-ended stage CRT leaves out, as there is no negative for them; None for none.

    Raises:
        UsageError: it leaves out all.
    """
    if not task.open_ended or not term_weights(config)["crt"]:
        return None
    crt, samples = config.objective.crt, len(task.splits["train"])
    missing = _without_negative(config, task)
    apart = "another response" if crt.max_overlap is None else f"a response of token F1 below {crt.max_overlap:g}"
    in_steps = crt.negatives == "batch"
    where = "in a step, counted over one epoch" if in_steps else "in the training split"
    more = "; objective.crt.negatives=dataset looks for one in the whole split" if in_steps else ""
    if missing == samples:
        raise UsageError(
            f"objective.beta: no sample has another image with the same instruction and {apart} {where}; "
            f"turn CRT off (objective.beta=0), or loosen objective.crt.max_overlap{more}"
        )
    if not missing:
        return None
    return (
        f"{missing} of {samples} samples are left out, as there is no other image with the same instruction and "
        f"{apart} {where}{more}"
    )


def _without_negative(config: Config, task: TaskData) -> int:
    """Count the samples that find no negative in an epoch of steps."""
    negatives = build_negatives(config.objective.crt, task, config.seed)
    answers, asked = task.splits["train"]["answer"][:], instruction_ids(task, "train").tolist()
    order = np.random.default_rng(0).permutation(len(answers)).tolist()
    size, missing = config.optim.batch_size, 0
    for start in range(0, len(order), size):
        step = order[start : start + size]
        drawn = negatives.draw(0, step, [answers[row] for row in step], [asked[row] for row in step])
        missing += sum(row == NO_NEGATIVE for row in drawn)
    return missing


def _needing_labels(config: Config, stages: Sequence[Config]) -> Iterator[tuple[str, str]]:
    """Yield each setting that needs labels, with what to do instead."""
    trains_tsm = any(stage.stage.name == "tsm" or needs_tsm(stage) for stage in stages)
    if trains_tsm and config.tsm.tune != "none" and config.exemplar.table is None:
        yield f"tsm.tune={config.tsm.tune}", FROZEN
    if any(map(is_head, stages)):
        yield "stage=head", "tune answers, stage=vanilla"
    for term in CLOSED_SET:
        if any(term_weights(stage)[term] for stage in stages):
            yield f"objective.{WEIGHTS[term]}", f"leave it at 0, as in objective=paper (objective.{WEIGHTS[term]}=0)"
    if with_hint(config):
        yield "data.instruction.hint", "leave it off"
    if config.objective.crt.tokens == "branching":
        yield "objective.crt.tokens=branching", "take all tokens, objective.crt.tokens=all"
    if config.objective.crt.disjoint:
        yield "objective.crt.disjoint", "say how different a response must be with objective.crt.max_overlap"
    if config.optim.sampling.classes != 1:
        yield "optim.sampling.classes", "leave it at 1"
