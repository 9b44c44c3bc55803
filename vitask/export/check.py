"""Nothing is handed on unchecked: the same probabilities and answers before and after, every tuned weight changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from vitask.errors import VitaskError
from vitask.files import tensors_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitask.export.samples import Samples
    from vitask.vlm.model import ExemplarVLM

TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far a probability may move, by the precision of the weights: one pass and many round differently."""


class Said(NamedTuple):
    """What a model says of the samples.

    Attributes:
        rows: probabilities: `(N, labels)` of each data set and way of asking, or, of a response in words, `(1, tokens)`
            of each sample and way.
        texts: greedy answers, of a run that answers in words.
    """

    rows: list[Tensor]
    texts: list[str]


@dataclass(frozen=True)
class Verdict:
    """What a check that was passed found.

    Attributes:
        samples: how many images were asked about.
        source: what they are.
        modes: in which ways they were asked about, in words.
        difference: the largest difference of a probability.
        tolerance: the largest that is allowed.
        weights: how many weights tuning changed.
        answers: how many answers in words there are; none where there are labels.
        same: how many of them are the same as the run's own.
    """

    samples: int
    source: str
    modes: str
    difference: float
    tolerance: float
    weights: int
    answers: int = 0
    same: int = 0

    @property
    def compared(self) -> str:
        """Whose probabilities were compared."""
        return "probabilities of the response's tokens" if self.answers else "label probabilities"

    def __str__(self) -> str:
        """Say it in one line."""
        words = f"{self.same} of {self.answers} greedy answers are the same, " if self.answers else ""
        return (
            f"checked {self.modes} with {self.samples} {self.source}: {self.compared} differ by at most "
            f"{self.difference:.1e} ({self.tolerance:g} is allowed), {words}tuning changed {self.weights} weights"
        )


def target_digests(vlm: ExemplarVLM) -> dict[str, str]:
    """Return the digest of each weight as it was before tuning, by the layer's path in the model.

    They are the weights under LoRA, or the decoder's linear layers where the whole of it was tuned.
    """
    from peft.tuners.lora import LoraLayer

    if vlm.original is None:
        layers = {name: layer for name, layer in vlm.base.named_modules() if isinstance(layer, LoraLayer)}
        return {name: tensors_digest({"weight": layer.base_layer.weight}) for name, layer in layers.items()}
    paths = {f"{name}.weight" for name, _ in vlm.base.named_modules() if name.endswith(tuple(vlm.family.lora_targets))}
    before = {name: weight for name, weight in vlm.original().items() if name in paths}
    return {name.removesuffix(".weight"): tensors_digest({"weight": weight}) for name, weight in before.items()}


def require_changed(before: Mapping[str, str], model: nn.Module) -> int:
    """Return how many weights differ from what they were before tuning, which must be all.

    Args:
        before: see `target_digests`.
        model: the model after tuning, LoRA merged into it.

    Raises:
        VitaskError: a weight is as it was.
    """
    same = [
        name
        for name, digest in before.items()
        if tensors_digest({"weight": model.get_submodule(name).weight}) == digest
    ]
    if same or not before:
        some = f"{len(same)} of {len(before)} weights did not change"
        told = "no weight changed" if len(same) == len(before) else some
        first = f", the first is {same[0]}" if same else ""
        raise VitaskError(
            f"export: {told} by tuning{first}; it learned nothing there, or less than the precision of the "
            "weights holds (vlm.dtype); nothing was written"
        )
    return len(before)


def compare(before: Said, after: Said, dtype: torch.dtype, samples: Samples, modes: str, weights: int) -> Verdict:
    """Compare probabilities and answers before and after.

    Answers in half precision are counted alone: rounding may choose the other of two tokens that are as likely.

    Args:
        before: what the run says.
        after: what the exported model says.
        dtype: precision of the weights.
        samples: the images.
        modes: the ways of asking, in words.
        weights: how many tuning changed.

    Raises:
        VitaskError: a probability moved too far, or is no number, or an answer in words is another one.
    """
    pairs = zip(before.rows, after.rows, strict=True)
    differences = torch.cat([(a.double() - b.double()).abs().amax(-1) for a, b in pairs])
    others = [pair for pair in zip(before.texts, after.texts, strict=True) if pair[0] != pair[1]]
    verdict = Verdict(
        samples.count, samples.source, modes, differences.max().item(), TOLERANCES[dtype], weights,
        len(before.texts), len(before.texts) - len(others),
    )  # fmt: skip
    moved = int((~(differences <= verdict.tolerance)).sum())
    if moved:
        raise VitaskError(
            f"export: {moved} of {len(differences)} answers have other {verdict.compared} than the run's own "
            f"(asked {modes}; they differ by up to {verdict.difference:.1e}, {verdict.tolerance:g} is allowed with "
            f"{str(dtype).removeprefix('torch.')} weights); nothing was written"
        )
    if others and dtype.itemsize >= 4:
        was, now = others[0]
        raise VitaskError(
            f"export: {len(others)} of {verdict.answers} greedy answers are not the run's own (asked {modes}; the "
            f"first is {now!r:.80}, was {was!r:.80}); nothing was written"
        )
    return verdict
