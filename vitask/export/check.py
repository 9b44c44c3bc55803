"""Nothing is handed on unchecked: the same label probabilities before and after, and every tuned weight changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vitask.errors import VitaskError
from vitask.files import tensors_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitask.export.samples import Samples
    from vitask.vlm.model import ExemplarVLM

TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far a label's probability may move, by the precision of the weights: one pass and many round differently."""


@dataclass(frozen=True)
class Verdict:
    """What a check that was passed found.

    Attributes:
        samples: how many images were asked about.
        source: what they are.
        modes: in which ways they were asked about, in words.
        difference: the largest difference of a label's probability.
        tolerance: the largest that is allowed.
        weights: how many weights tuning changed.
    """

    samples: int
    source: str
    modes: str
    difference: float
    tolerance: float
    weights: int

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"checked {self.modes} with {self.samples} {self.source}: label probabilities differ by at most "
            f"{self.difference:.1e} ({self.tolerance:g} is allowed), tuning changed {self.weights} weights"
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


def compare(
    before: Sequence[Tensor], after: Sequence[Tensor], dtype: torch.dtype, samples: Samples, modes: str, weights: int
) -> Verdict:
    """Compare label probabilities before and after.

    Args:
        before: `(N, labels)` of each data set and way of asking.
        after: the same of what was exported.
        dtype: precision of the weights.
        samples: the images.
        modes: the ways of asking, in words.
        weights: how many tuning changed.

    Raises:
        VitaskError: a probability moved too far, or is no number.
    """
    differences = torch.cat([(a.double() - b.double()).abs().amax(-1) for a, b in zip(before, after, strict=True)])
    verdict = Verdict(samples.count, samples.source, modes, differences.max().item(), TOLERANCES[dtype], weights)
    moved = int((~(differences <= verdict.tolerance)).sum())
    if moved:
        raise VitaskError(
            f"export: {moved} of {len(differences)} answers have other label probabilities than the run's own "
            f"(asked {modes}; they differ by up to {verdict.difference:.1e}, {verdict.tolerance:g} is allowed with "
            f"{str(dtype).removeprefix('torch.')} weights); nothing was written"
        )
    return verdict
