"""The objective of a stage: which terms count, which branches they need, and their weighted sum (paper, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitask.losses import (
    IGNORE_INDEX,
    CRTLoss,
    CSALoss,
    RankingLoss,
    RDALoss,
    VanillaLoss,
    closed_set_positions,
    count_valid,
    crt_positions,
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
}
"""The branches that each term compares, in the order in which its loss takes them."""
CLOSED_SET = ("ranking", "csa")
"""The terms that look at the likelihoods of a closed set rather than at response tokens."""


class Objective:
    """L_Van + L_EP + alpha L_RDA + beta L_CRT, and two closed-set terms of our own; any is absent when its weight is 0.

    Args:
        weights: weight by term (`vanilla`, `ep`, `rda`, `crt`, `ranking`, `csa`). A term at 0, and a branch that only
            it needs, are never computed.
        temperature: of RDA; 1 in the paper.
        direction: of RDA's divergence; `"student_first"` in the paper.
        detach_teacher: whether RDA's teacher gets no gradient; `False` is the paper's RDA*.
        crt_tokens: `"all"` (paper) or `"branching"`.
        label_tokens: the closed set of responses as token ids, for `crt_tokens="branching"`.
        reduction: `"token"` or `"sequence"`; the paper says only "averaged over the batch".
        ramp: fraction of training over which the weight of `rda` grows linearly from 0; 0 for none (paper).
        closed_set_temperature: divides the log-likelihoods of the closed set in `ranking` and `csa`.
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
        temperature: float = 1.0,
        direction: str = "student_first",
        detach_teacher: bool = True,
        crt_tokens: str = "all",
        label_tokens: Sequence[Sequence[int]] | None = None,
        reduction: str = "token",
        ramp: float = 0.0,
        closed_set_temperature: float = 1.0,
        teacher_temperature: float = 1.0,
    ) -> None:
        if unknown := sorted(weights.keys() - BRANCHES.keys()):
            raise ValueError(f"no term is called {', '.join(unknown)}; there are {', '.join(BRANCHES)}")
        self.weights = {term: weights.get(term, 0.0) for term in BRANCHES}
        self.terms = tuple(term for term, weight in self.weights.items() if weight != 0.0)
        if not self.terms:
            raise ValueError("the objective has no term with a weight")
        self.branches = tuple(dict.fromkeys(branch for term in self.terms for branch in BRANCHES[term]))
        self.reduction = reduction
        self.ramp = ramp
        self.losses = {
            "vanilla": VanillaLoss(reduction=reduction),
            "ep": VanillaLoss(reduction=reduction),
            "rda": RDALoss(
                temperature=temperature, direction=direction, detach_teacher=detach_teacher, reduction=reduction
            ),
            "crt": CRTLoss(tokens=crt_tokens, label_tokens=label_tokens, reduction=reduction),
            "ranking": RankingLoss(temperature=closed_set_temperature),
            "csa": CSALoss(temperature=closed_set_temperature, teacher_temperature=teacher_temperature),
        }

    def weight(self, term: str, progress: float) -> float:
        """Return a term's weight when the fraction `progress` of training is done."""
        ramped = min(1.0, progress / self.ramp) if term == "rda" and self.ramp > 0 else 1.0
        return self.weights[term] * ramped

    def counts(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count what each term is averaged over, to be summed over micro-batches and ranks.

        Args:
            batch: `labels (B, R)`, the response tokens, `IGNORE_INDEX` on padding; for `crt` also `has_negative (B,)`
                bool, whether a sample has a negative image; for the closed-set terms what `Candidates` describes.
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
        if term in CLOSED_SET:
            kinds = batch["closed_set"].values()
            return sum(
                count_valid(
                    closed_set_positions(kind["valid"], membership=kind.get("membership"), mask=kind["rows"]),
                    "sequence",
                )
                for kind in kinds
            )
        labels = batch["labels"]
        if term != "crt":
            return count_valid(labels != IGNORE_INDEX, self.reduction)
        crt, mask = self.losses["crt"], batch["has_negative"][:, None]
        positions = crt_positions(labels, tokens=crt.tokens, label_tokens=crt.label_tokens, mask=mask)
        return count_valid(positions, self.reduction)

    def _part(self, term: str, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """One term's loss; a closed-set one adds up over samples with one label and samples with several."""
        loss, compared = self.losses[term], [outputs[name] for name in BRANCHES[term]]
        if term not in CLOSED_SET:
            options = {"mask": batch["has_negative"][:, None]} if term == "crt" else {}
            return loss(*compared, batch["labels"], normalizer=total, **options)
        wanted = "targets" if term == "ranking" else "teacher"
        return sum(
            loss(*compared, kind[wanted], kind.get("membership"), mask=kind["rows"], normalizer=total)
            for kind in batch["closed_set"].values()
        )
