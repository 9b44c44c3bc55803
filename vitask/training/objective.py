"""The objective of a stage: which terms count, which branches they need, and their weighted sum (paper, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vitask.losses import (
    IGNORE_INDEX,
    CRTLoss,
    CSALoss,
    ImageRankingLoss,
    RankingLoss,
    RDALoss,
    VanillaLoss,
    closed_set_positions,
    count_valid,
    crt_positions,
    image_ranking_positions,
    smoothed_label_logits,
)

if TYPE_CHECKING:
    from torch import Tensor

BRANCHES = {
    "vanilla": ("vanilla",),
    "ep": ("exemplar",),
    "rda": ("vanilla", "exemplar"),
    "crt": ("vanilla", "negative"),
    "ranking": ("labels",),
    "csa": ("labels",),
    "image_ranking": ("labels",),
}
"""The branches that each term compares, in the order in which its loss takes them."""
BY_SAMPLE = ("ranking", "csa")
"""The terms that compare the likelihoods of a closed set, sample by sample."""
TEACHERS = ("exemplar", "labels")
"""Who teaches in RDA: the branch with the exemplar (paper), or the response itself, smoothed, without a branch."""


class Objective:
    """L_Van + L_EP + alpha L_RDA + beta L_CRT, and closed-set terms of our own; any is absent when its weight is 0.

    Args:
        weights: weight by term, see `BRANCHES`. A term at 0, and a branch that only it needs, are never computed.
        rda_teacher: see `TEACHERS`.
        smoothing: share that `rda_teacher="labels"` spreads over the vocabulary.
        rda_mask: `"none"` (paper) or `"teacher_right"`.
        temperature: of RDA; 1 in the paper.
        direction: of RDA's divergence; `"student_first"` in the paper.
        detach_teacher: whether RDA's teacher gets no gradient; `False` is the paper's RDA*.
        crt_tokens: `"all"` (paper) or `"branching"`.
        label_tokens: the closed set of responses as token ids, for `crt_tokens="branching"`.
        reduction: `"token"` or `"sequence"`; the paper says only "averaged over the batch".
        ramps: by term, the fraction of training over which its weight grows linearly from 0; 0 for none (paper).
        closed_set_temperature: divides the log-likelihoods of the closed set.
        teacher_temperature: divides the TSM's logits in `csa`.

    Raises:
        ValueError: a term or an option is unknown, or no term has a weight.

    Example:
        >>> Objective({"vanilla": 1.0, "ep": 1.0, "rda": 0.0}).branches
        ('vanilla', 'exemplar')
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        rda_teacher: str = "exemplar",
        smoothing: float = 0.1,
        rda_mask: str = "none",
        temperature: float = 1.0,
        direction: str = "student_first",
        detach_teacher: bool = True,
        crt_tokens: str = "all",
        label_tokens: Sequence[Sequence[int]] | None = None,
        reduction: str = "token",
        ramps: Mapping[str, float] | None = None,
        closed_set_temperature: float = 1.0,
        teacher_temperature: float = 1.0,
    ) -> None:
        if unknown := sorted(weights.keys() - BRANCHES.keys()):
            raise ValueError(f"no term is called {', '.join(unknown)}; there are {', '.join(BRANCHES)}")
        self.weights = {term: weights.get(term, 0.0) for term in BRANCHES}
        self.terms = tuple(term for term, weight in self.weights.items() if weight != 0.0)
        if not self.terms:
            raise ValueError("the objective has no term with a weight")
        if rda_teacher not in TEACHERS:
            raise ValueError(f"RDA's teacher must be one of {', '.join(TEACHERS)}; got {rda_teacher!r}")
        self.smoothing = smoothing if rda_teacher == "labels" else None
        self.compared = BRANCHES if self.smoothing is None else {**BRANCHES, "rda": ("vanilla",)}
        self.branches = tuple(dict.fromkeys(branch for term in self.terms for branch in self.compared[term]))
        self.reduction = reduction
        self.ramps = dict(ramps or {})
        self.losses = {
            "vanilla": VanillaLoss(reduction=reduction),
            "ep": VanillaLoss(reduction=reduction),
            "rda": RDALoss(
                temperature=temperature,
                direction=direction,
                detach_teacher=detach_teacher,
                mask=rda_mask,
                reduction=reduction,
            ),
            "crt": CRTLoss(tokens=crt_tokens, label_tokens=label_tokens, reduction=reduction),
            "ranking": RankingLoss(temperature=closed_set_temperature),
            "csa": CSALoss(temperature=closed_set_temperature, teacher_temperature=teacher_temperature),
            "image_ranking": ImageRankingLoss(temperature=closed_set_temperature),
        }

    def weight(self, term: str, progress: float) -> float:
        """Return a term's weight when the fraction `progress` of training is done."""
        ramp = self.ramps.get(term, 0.0)
        return self.weights[term] * (min(1.0, progress / ramp) if ramp > 0 else 1.0)

    def counts(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count what each term is averaged over, to be summed over micro-batches and ranks.

        Args:
            batch: `labels (B, R)`, the response tokens, `IGNORE_INDEX` on padding; for `crt` also `has_negative (B,)`
                bool, whether a sample has a negative image; for the closed-set terms what `Candidates` describes, and
                for `image_ranking` its columns.
        """
        return {term: self._count(term, batch) for term in self.terms}

    def __call__(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], totals: Mapping[str, Tensor], progress: float
    ) -> dict[str, Tensor]:
        """Compute the parts and their weighted sum.

        Args:
            outputs: response logits `(B, R, V)` by branch; `labels (B, K)`, the log-likelihoods of the closed set.
            batch: as in `counts`.
            totals: the counts of the whole optimiser step by term.
            progress: fraction of training done, in [0, 1].

        Returns:
            `{"loss": weighted sum, term: unweighted part, ...}`, 0-d tensors.
        """
        parts = {term: self._part(term, outputs, batch, totals[term]) for term in self.terms}
        return {"loss": sum(self.weight(term, progress) * part for term, part in parts.items()), **parts}

    def _count(self, term: str, batch: Mapping[str, Any]) -> Tensor:
        if term in BY_SAMPLE:
            kinds = batch["closed_set"].values()
            return sum(
                count_valid(
                    closed_set_positions(kind["valid"], membership=kind.get("membership"), mask=kind["rows"]),
                    "sequence",
                )
                for kind in kinds
            )
        if term == "image_ranking":
            columns = batch["columns"]
            return count_valid(image_ranking_positions(columns["scored"], columns["targets"]))
        labels = batch["labels"]
        if term != "crt":
            return count_valid(labels != IGNORE_INDEX, self.reduction)
        crt, mask = self.losses["crt"], batch["has_negative"][:, None]
        positions = crt_positions(labels, tokens=crt.tokens, label_tokens=crt.label_tokens, mask=mask)
        return count_valid(positions, self.reduction)

    def _part(self, term: str, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """One term's loss; a by-sample one adds up over samples with one label and samples with several."""
        loss, compared = self.losses[term], [outputs[name] for name in self.compared[term]]
        if term in BY_SAMPLE:
            wanted = "targets" if term == "ranking" else "teacher"
            return sum(
                loss(*compared, kind[wanted], kind.get("membership"), mask=kind["rows"], normalizer=total)
                for kind in batch["closed_set"].values()
            )
        if term == "image_ranking":
            return loss(_in_columns(*compared, **batch["columns"]), batch["columns"]["targets"], normalizer=total)
        if term == "rda" and self.smoothing is not None:
            compared.append(_smoothed(*compared, batch["labels"], self.smoothing))
        options = {"mask": batch["has_negative"][:, None]} if term == "crt" else {}
        return loss(*compared, batch["labels"], normalizer=total, **options)


def _smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The teacher of RDA that is no branch: the smoothed response."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    return smoothed_label_logits(labels, logits.shape[-1], smoothing, dtype=wide)


def _in_columns(scores: Tensor, places: Tensor, scored: Tensor, targets: Tensor) -> Tensor:
    """Move each image's scores `(B, K)` to the columns that the batch's answers share; -inf where there is none."""
    spread = scores.new_full((len(scores), scored.shape[1] + 1), -torch.inf).scatter(1, places, scores)
    return spread[:, :-1]
