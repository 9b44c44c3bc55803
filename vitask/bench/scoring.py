"""Measures closed-set scoring: all labels through one trie, beside a prefill, one forward a label, and generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from vitask.bench.counting import count
from vitask.bench.measure import Setting, interleaved, ratio
from vitask.errors import VitaskError
from vitask.evaluation.scoring import score_responses
from vitask.vlm.generation import generate
from vitask.vlm.inputs import label_branch, make_branch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.bench.material import Batches
    from vitask.bench.sizes import Models
    from vitask.vlm.model import ExemplarVLM

TRIE, PREFILL = "trie: all labels in one pass", "prefill: the prompt alone"
ONE_BY_ONE, GREEDY = "one forward a label", "greedy generation"


class Scorers:
    """The ways to an answer, for one batch whose images are encoded already; each counts its own token handling.

    Args:
        vlm: the model, in evaluation mode.
        batches: the batch.
    """

    def __init__(self, vlm: ExemplarVLM, batches: Batches) -> None:
        self.vlm, self.material = vlm, batches.material
        self.prompter, self.prompts = self.material.prompter, self.material.members()
        features = batches.features
        images = {"image_features": features.values, "image_tokens": features.token_counts}
        self.images = self.material.to_device(images)

    @torch.no_grad()
    def trie(self) -> Tensor:
        """Score every label as the package does."""
        return score_responses(self.vlm, self.prompter, self.prompts, self.prompter.responses, self.images)

    @torch.no_grad()
    def prefill(self) -> Tensor:
        """Compute the logits of the first answer token."""
        batch = self._prompts_alone()
        inputs = self.vlm.decoder_inputs(batch["branches"]["vanilla"], self.vlm.image_features(batch))
        return self.vlm.head(self.vlm.decode(inputs, batch["branches"]["vanilla"]["attention_mask"])[:, -1])

    @torch.no_grad()
    def one_by_one(self) -> Tensor:
        """Score label after label, the whole batch at once."""
        rows, scores = range(len(self.prompts)), []
        for response in self.prompter.responses:
            branch = label_branch(self.prompts, rows, [[response]] * len(rows), self.prompter)
            batch = self.material.to_device({**self.images, "branches": {"labels": branch}})
            scores.append(self.vlm(batch)["labels"])
        return torch.cat(scores, dim=1).float()

    @torch.no_grad()
    def greedy(self) -> list[list[int]]:
        """Answer freely, with as many tokens as the longest label has."""
        longest = max(map(len, self.prompter.responses))
        options = {"end_id": self.prompter.end_id, "pad_id": self.prompter.pad_id}
        return generate(self.vlm, self._prompts_alone(), "vanilla", max_new_tokens=longest, **options)

    def _prompts_alone(self) -> dict[str, Any]:
        rows = range(len(self.prompts))
        branch = make_branch(self.prompts, [()] * len(rows), None, rows, self.prompter, left=True)
        return self.material.to_device({**self.images, "branches": {"vanilla": branch}})


def measure_scoring(models: Models, batches: Batches, setting: Setting) -> dict[str, Any]:
    """Measure the ways to score or answer a batch.

    Returns:
        `rows`, one record a way with `name`, `flops`, `seconds` and the ratios of both to the prefill and the trie; and
        what `compare` says of the trie and of one forward a label.

    Raises:
        VitaskError: the trie scores wrongly.
    """
    scorers = Scorers(models.vlm().eval(), batches)
    ways = {TRIE: scorers.trie, PREFILL: scorers.prefill, ONE_BY_ONE: scorers.one_by_one, GREEDY: scorers.greedy}

    def within_amp(way: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            with setting.amp():
                way()

        return run

    runs = {name: within_amp(way) for name, way in ways.items()}
    flops = {name: count(run, models.tensors(), setting.device)[0] for name, run in runs.items()}
    with setting.amp():
        differences = compare(scorers.trie(), scorers.one_by_one(), models.half)
    seconds = interleaved(runs, setting)
    rows = []
    for name in runs:
        ratios = {
            base: {"seconds": ratio(seconds[name], seconds[base]), "flops": flops[name] / flops[base]}
            for base in (PREFILL, TRIE)
        }
        rows.append({"name": name, "flops": flops[name], "seconds": seconds[name], "ratios": ratios})
    return {"rows": rows, **differences}


def compare(trie: Tensor, one_by_one: Tensor, half: bool) -> dict[str, float]:
    """Compare log-likelihoods `(B, K)` of the same labels.

    Returns:
        The largest difference of a log-likelihood and of a label's probability.

    Raises:
        VitaskError: they differ by more than rounding.
    """
    scores = float((trie - one_by_one).abs().max())
    allowed = (0.05 if half else 1e-4) * float(one_by_one.abs().max())
    if not scores <= allowed:
        raise VitaskError(f"bench: the trie's log-likelihoods differ by {scores:.3g} from one forward a label")
    probabilities = (trie.softmax(-1) - one_by_one.softmax(-1)).abs().max()
    return {"largest_score_difference": scores, "largest_difference": float(probabilities)}
