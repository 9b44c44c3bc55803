"""The training steps that are compared, each a function from nothing to its loss parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vitask.bench.material import Batches
from vitask.errors import VitaskError
from vitask.training.objective import Objective
from vitask.training.vitask_task import VITask

if TYPE_CHECKING:
    from vitask.bench.sizes import Models
    from vitask.vlm.model import ExemplarVLM

STOCK, PLAIN = "stock", "plain vanilla"
"""What everything else is compared with."""
PACKED = "VITask packed, before_assistant"
STAGES = {"1": ("vanilla", "ep", "rda"), "2": ("vanilla", "ep", "rda", "crt")}
"""The paper's terms by stage."""
RECOMMENDED = ("vanilla", "csa", "image_ranking")
"""Those of `objective=recommended`."""
WEIGHTS = {"vanilla": 1.0, "ep": 1.0, "rda": 1.0, "crt": 0.1, "csa": 1.0, "image_ranking": 1.0}
BEFORE, AFTER = "before_assistant", "after_image"

Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One row of the table.

    Attributes:
        name: what it computes, and how.
        stage: of the paper; `-` where that makes no difference.
        prepare: builds its batch and returns what computes the loss and its parts.
    """

    name: str
    stage: str
    prepare: Callable[[], Callable[[], Parts]]

    @property
    def key(self) -> str:
        """Its name among the rows of all stages."""
        return self.name if self.stage == "-" else f"{self.name}, stage {self.stage}"


def training_steps(models: Models, batches: Batches) -> Iterator[Step]:
    """Yield every row, what the others are compared with first."""

    def ours(stage: str, terms: tuple[str, ...], form: str, position: str, live: bool = False) -> Any:
        return partial(_vitask, models, batches, stage, terms, form, position, live=live)

    yield Step(STOCK, "-", partial(_stock, models, batches))
    yield Step(PLAIN, "-", ours("1", ("vanilla",), "plain", BEFORE))
    for stage, terms in STAGES.items():
        yield Step("VITask naive, after_image, live tower", stage, ours(stage, terms, "naive", AFTER, True))
        yield Step("VITask plain, before_assistant", stage, ours(stage, terms, "plain", BEFORE))
        yield Step(PACKED, stage, ours(stage, terms, "packed", BEFORE))
        yield Step("VITask packed, after_image", stage, ours(stage, terms, "packed", AFTER))
        yield Step("VITask packed, before_assistant, live tower", stage, ours(stage, terms, "packed", BEFORE, True))
        yield Step("VITask packed, after_image, live tower", stage, ours(stage, terms, "packed", AFTER, True))
    yield Step("vanilla + CSA + image ranking packed, 10 labels", "-", ours("1", RECOMMENDED, "packed", BEFORE))
    yield Step(f"{PACKED}, + CSA, 10 labels", "2", ours("2", (*STAGES["2"], "csa"), "packed", BEFORE))


def _stock(models: Models, batches: Batches) -> Callable[[], Parts]:
    """The step of transformers' Trainer and TRL's SFTTrainer: logits everywhere, the frozen tower in every step."""
    batch, model = batches.stock(), models.adapted

    def compute() -> Parts:
        loss = model(**batch).loss
        return {"loss": loss, "vanilla": loss}

    return compute


def _vitask(
    models: Models,
    batches: Batches,
    stage: str,
    terms: tuple[str, ...],
    form: str,
    position: str,
    *,
    live: bool = False,
) -> Callable[[], Parts]:
    """The package's own step; `naive` is what one would write first."""
    task = VITask(models.vlm(position, stage), Objective({term: WEIGHTS[term] for term in terms}))
    batch = batches.batch(task.objective.branches, "packed" if form == "packed" else "plain", position, live=live)
    totals = task.counts(batch)
    if form == "naive":
        return lambda: task.objective(_naive_outputs(task.vlm, batch), batch, totals, 1.0)
    return lambda: task(batch, totals, 1.0)


def _naive_outputs(vlm: ExemplarVLM, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """One pass a branch, each with the encoder and with logits at every position."""
    outputs = {}
    for name, branch in batch["branches"].items():
        exemplars = vlm.connector(batch["exemplars"]) if branch["has_exemplar"] else None
        inputs = vlm.decoder_inputs(branch, vlm.image_features(batch), exemplars)
        logits = vlm.head(vlm.decode(inputs, branch["attention_mask"]))
        rows = torch.arange(len(logits), device=logits.device)[:, None]
        outputs[name] = logits[rows, branch["answer_positions"]]
    return outputs


def check_agreement(found: Mapping[str, Mapping[str, float]], half: bool) -> None:
    """Check that rows that should compute the same did, so that nothing wrong is timed.

    Args:
        found: the loss parts by row.
        half: whether they were computed in half precision.

    Raises:
        VitaskError: two rows differ.
    """
    relative, absolute = (0.05, 0.1) if half else (1e-3, 1e-5)
    known: dict[tuple[str, str], tuple[str, float]] = {}
    for key, parts in found.items():
        for part, value in parts.items():
            if part in ("loss", "without_negative"):
                continue
            scope = (part, AFTER in key) if part in ("ep", "rda") else (part, False)
            other, reference = known.setdefault(scope, (key, value))
            if not abs(value - reference) <= absolute + relative * abs(reference):
                raise VitaskError(f"bench: '{part}' is {reference:.6g} in '{other}' but {value:.6g} in '{key}'")
