"""Open-ended runs: what needs labels is refused, and samples without a negative are counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vitask.errors import UsageError
from vitask.runs.folder import say
from vitask.runs.identity import CLOSED_SET, WEIGHTS, is_head, is_open_ended, needs_tsm, term_weights, with_hint

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.training.vitask_data import VITaskTrainingData

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


def say_negatives(config: Config, data: VITaskTrainingData) -> None:
    """Say how many samples CRT leaves out, as there is no negative for them.

    Raises:
        UsageError: it leaves out all.
    """
    if data.negatives is None:
        return
    missing, crt = data.without_negative(config.optim.batch_size), config.objective.crt
    apart = "another response" if crt.max_overlap is None else f"a response of token F1 below {crt.max_overlap:g}"
    where = "in a step, counted over one epoch" if crt.negatives == "batch" else "in the training split"
    if missing == len(data):
        raise UsageError(
            f"objective.beta: no sample has another image with the same instruction and {apart} {where}; "
            "turn CRT off (objective.beta=0), or loosen objective.crt.max_overlap, or objective.crt.negatives=dataset"
        )
    if missing:
        more = "; objective.crt.negatives=dataset looks for one in the whole split" if crt.negatives == "batch" else ""
        say(
            f"crt: {missing} of {len(data)} samples are left out, as there is no other image with the same instruction "
            f"and {apart} {where}{more}"
        )


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
