"""The closed-set losses once more, as loops over Python floats, in the manner of `reference.py`.

`scores[b][k]`, `membership[k][l]` or `membership[b][k][l]`; -inf in the scores is padding. Probabilities are added up
plainly, not in the log domain. `settings` yields every kind of closed set that the losses know.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .reference import Rows, assert_close, cases, compare, leaf, log_softmax, nll, weights

B, K, L = 5, 4, 3
MASK = [True, True, False, True, True]
MEANS = {"mask": [None, MASK], "normalizer": [None, 11]}
Term = Callable[[int, int], tuple[float, list[float]]]


def is_candidate(scores: Rows) -> Rows:
    return [[s != -math.inf for s in row] for row in scores]


def by_row(membership: list, rows: int) -> list:
    return [membership] * rows if isinstance(membership[0][0], bool) else membership


def probabilities(scores: list[float], temperature: float) -> list[float]:
    """softmax(s / T) over the candidates that are not padding; 0 on padding."""
    log_p = iter(log_softmax([s / temperature for s in scores if s != -math.inf]))
    return [math.exp(next(log_p)) if s != -math.inf else 0.0 for s in scores]


def positions(candidates: Rows, membership: list | None = None, mask: list[bool] | None = None) -> Rows:
    """A label is open if one candidate holds it and another one does not; no membership: two candidates or more."""
    mask = mask or [True] * len(candidates)
    if membership is None:
        return [[sum(row) >= 2 and counts] for row, counts in zip(candidates, mask, strict=True)]
    result = []
    for row, answers, counts in zip(candidates, by_row(membership, len(candidates)), mask, strict=True):
        held = [[answer[label] for answer, real in zip(answers, row, strict=True) if real] for label in range(L)]
        result.append([counts and any(h) and not all(h) for h in held])
    return result


def log_side(
    scores: list[float], answers: list, label: int, holds: bool, temperature: float
) -> tuple[float, list[float]]:
    """Log of the probability of the answers that do (or do not) hold a label: P.

    Derivative by s_k: (p_k [k on this side] / P - p_k) / T.
    """
    p = probabilities(scores, temperature)
    side = [answer[label] == holds for answer in answers]
    total = math.fsum(q for q, here in zip(p, side, strict=True) if here)
    return math.log(total), [(q * here / total - q) / temperature for q, here in zip(p, side, strict=True)]


def mean(scores: Rows, counted: Rows, term: Term, normalizer: float | None) -> tuple[float, dict[str, Rows]]:
    """Mean over the counted labels of each row, then over the rows that have any (or what replaces their number)."""
    value, gradient = 0.0, [[0.0] * len(row) for row in scores]
    for b, row in enumerate(weights(counted, "sequence", normalizer)):
        for label, weight in enumerate(row):
            if weight:
                loss, by_scores = term(b, label)
                value += weight * loss
                gradient[b] = [g + weight * d for g, d in zip(gradient[b], by_scores, strict=True)]
    return value, {"scores": gradient}


def against(target: float, yes: tuple[float, list[float]], no: tuple[float, list[float]]) -> tuple[float, list[float]]:
    """Cross-entropy -t log p - (1 - t) log(1 - p), from both logs and their derivatives."""
    gradient = [-target * y - (1 - target) * n for y, n in zip(yes[1], no[1], strict=True)]
    return -target * yes[0] - (1 - target) * no[0], gradient


def ranking(scores: Rows, targets: list, membership=None, mask=None, temperature=1.0, normalizer=None):
    def term(b: int, label: int):
        if membership is None:
            p = probabilities(scores[b], temperature)
            return -math.log(p[targets[b]]), [(q - (k == targets[b])) / temperature for k, q in enumerate(p)]
        answers = by_row(membership, len(scores))[b]
        sides = [log_side(scores[b], answers, label, holds, temperature) for holds in (True, False)]
        return against(targets[b][label], *sides)

    return mean(scores, positions(is_candidate(scores), membership, mask), term, normalizer)


def csa(
    scores: Rows, teacher: Rows, membership=None, mask=None, temperature=1.0, teacher_temperature=1.0, normalizer=None
):
    scale = temperature * temperature

    def term(b: int, label: int):
        if membership is None:
            real = [s != -math.inf for s in scores[b]]
            p = probabilities(scores[b], temperature)
            t = probabilities(
                [z if r else -math.inf for z, r in zip(teacher[b], real, strict=True)], teacher_temperature
            )
            kl = math.fsum(u * (math.log(u) - math.log(q)) for u, q, r in zip(t, p, real, strict=True) if r)
            return scale * kl, [scale * (q - u) / temperature for u, q in zip(t, p, strict=True)]
        answers = by_row(membership, len(scores))[b]
        sides = [log_side(scores[b], answers, label, holds, temperature) for holds in (True, False)]
        t = 1 / (1 + math.exp(-teacher[b][label] / teacher_temperature))
        cross_entropy, gradient = against(t, *sides)
        return scale * (cross_entropy + t * math.log(t) + (1 - t) * math.log(1 - t)), [scale * g for g in gradient]

    return mean(scores, positions(is_candidate(scores), membership, mask), term, normalizer)


def rivals(scores: Rows, targets: list[int], present: list[bool], sample: int) -> list[int]:
    """The images of another answer that were scored against the sample's own."""
    own = targets[sample]
    return [b for b, row in enumerate(scores) if present[b] and targets[b] != own and row[own] != -math.inf]


def image_ranking(scores: Rows, targets: list[int], mask=None, temperature=1.0, normalizer=None):
    """Each sample's image against its rivals, in the column of its answer: no other score gets a gradient."""
    present, losses, gradient = mask or [True] * len(scores), [], [[0.0] * len(row) for row in scores]
    for b, own in enumerate(targets):
        others = rivals(scores, targets, present, b) if present[b] and scores[b][own] != -math.inf else []
        if others:
            loss, by_image = nll([scores[i][own] / temperature for i in (b, *others)], 0)
            losses.append(loss)
            for i, g in zip((b, *others), by_image, strict=True):
                gradient[i][own] += g / temperature
    total = normalizer if normalizer is not None else max(1, len(losses))
    return math.fsum(losses) / total, {"scores": [[g / total for g in row] for row in gradient]}


def ragged_scores(seed: int = 0) -> torch.Tensor:
    """Rows of 4, 3, 4, 2 and 1 candidates; padding in front, behind and on both sides."""
    scores = leaf(B, K, seed=seed).detach()
    for b, k in [(1, 0), (3, 0), (3, 3), (4, 0), (4, 1), (4, 3)]:
        scores[b, k] = -math.inf
    return scores.requires_grad_()


SHARED = [[True, False, False], [True, True, False], [False, True, False], [True, False, False]]
"""Label 2 is in no answer; label 1 is in both candidates of row 3; the one candidate of row 4 settles everything."""

OWN = [
    SHARED,
    [[False, True, True], [True, True, False], [True, True, True], [False, False, True]],
    [[False, False, False], [True, False, True], [False, True, True], [True, True, False]],
    [[True, True, False], [True, False, True], [False, False, False], [False, True, True]],
    SHARED,
]


def settings() -> Iterator[dict[str, Any]]:
    """Membership as lists and the targets and teacher that go with it."""
    generator = torch.Generator().manual_seed(7)
    for membership in (None, SHARED, OWN):
        targets = torch.randint(0, 2, (B, L), generator=generator) if membership else torch.tensor([3, 2, 0, 2, 2])
        yield {"membership": membership, "targets": targets, "teacher": leaf(B, L if membership else K, seed=8)}


def tensors(**options: Any) -> dict[str, Any]:
    return {n: torch.tensor(v) if n in ("membership", "mask") and v is not None else v for n, v in options.items()}


def check_positions(api: Any) -> None:
    candidates = is_candidate(ragged_scores().tolist())
    for case in cases(membership=[None, SHARED, OWN], mask=[None, MASK]):
        actual = api.closed_set_positions(torch.tensor(candidates), **tensors(**case))
        assert actual.tolist() == positions(candidates, **case), str(case)
    assert sum(map(sum, positions(candidates, SHARED))) == 7, "the example must leave some labels open"


def check_log_odds(api: Any) -> None:
    """Value and gradient of each label by itself, from log p and log(1 - p)."""
    scores = ragged_scores()
    for case in cases(membership=[SHARED, OWN], temperature=[1.0, 2.5]):
        membership, temperature = case["membership"], case["temperature"]
        actual = api.label_log_odds(scores, torch.tensor(membership), temperature)
        open_labels = positions(is_candidate(scores.tolist()), membership)
        for b, label in itertools.product(range(B), range(L)):
            (by_scores,) = torch.autograd.grad(actual[b, label], scores, retain_graph=True)
            if not open_labels[b][label]:
                assert actual[b, label].isinf(), f"row {b}, label {label} ({case})"
                assert_close(by_scores, [[0.0] * K] * B, f"gradient of a settled label ({case})")
                continue
            row, answers = scores[b].tolist(), by_row(membership, B)[b]
            yes, no = (log_side(row, answers, label, holds, temperature) for holds in (True, False))
            assert_close(actual[b, label], yes[0] - no[0], f"log-odds ({case})")
            assert_close(by_scores[b], [y - n for y, n in zip(yes[1], no[1], strict=True)], f"gradient ({case})")


def check_ranking(api: Any) -> None:
    scores = ragged_scores(seed=1)
    for setting in settings():
        for case in [{}, *cases(temperature=[1.0, 2.5], **MEANS)]:
            options = {"membership": setting["membership"], **case}
            expected = ranking(scores.tolist(), setting["targets"].tolist(), **options)
            actual = api.ranking_loss(scores, setting["targets"], **tensors(**options))
            compare(actual, expected, str(options), scores=scores)


def check_csa(api: Any) -> None:
    scores = ragged_scores(seed=2)
    for setting in settings():
        teacher = setting["teacher"]
        for case in [{}, *cases(temperature=[1.0, 2.5], teacher_temperature=[1.0, 0.6], **MEANS)]:
            options = {"membership": setting["membership"], **case}
            expected = csa(scores.tolist(), teacher.tolist(), **options)
            actual = api.csa_loss(scores, teacher, **tensors(**options))
            compare(actual, expected, str(options), scores=scores, teacher=teacher)


IMAGE_TARGETS = [[0, 1, 2, 2, 1], [3, 2, 0, 2, 2], [1, 1, 1, 2, 1], [2, 2, 2, 2, 2]]
"""Columns of `ragged_scores`: of five images, with answers that they were scored against or not, and without rivals."""


def check_image_ranking(api: Any) -> None:
    scores = ragged_scores(seed=3)
    for case in [{}, *cases(temperature=[1.0, 2.5], **MEANS)]:
        for targets in IMAGE_TARGETS:
            expected = image_ranking(scores.tolist(), targets, **case)
            actual = api.image_ranking_loss(scores, torch.tensor(targets), **tensors(**case))
            compare(actual, expected, f"{targets}, {case}", scores=scores)
            present, rows = case.get("mask") or [True] * B, scores.tolist()
            counted = [
                present[b] and rows[b][own] != -math.inf and bool(rivals(rows, targets, present, b))
                for b, own in enumerate(targets)
            ]
            positions = api.image_ranking_positions(
                ~scores.isneginf(), torch.tensor(targets), **tensors(mask=case.get("mask"))
            )
            assert positions.tolist() == counted, f"{targets}, {case}"


CHECKS = {
    "positions": check_positions,
    "log odds": check_log_odds,
    "ranking": check_ranking,
    "csa": check_csa,
    "image ranking": check_image_ranking,
}
