"""Two models that answer in words, on the same questions: paired differences, drawn over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import VitaskError

if TYPE_CHECKING:
    from vitask.evaluation.uncertainty import Parts

FIGURES = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rank_accuracy": "ranked first",
    "log_likelihood": "log-likelihood a token",
}
COLUMNS = {"image", "tokens", "text", "exact_match", "token_f1", "place", "rivals", "log_likelihood"}
Rows = Sequence[Mapping[str, str]]


def compare_words(base: Rows, own: Rows) -> dict[str, Any]:
    """Compare two evaluations of the same questions.

    Args:
        base: the rows of `predictions.csv` of the one, which `require_comparable` has seen.
        own: those of the other.

    Returns:
        `samples`, `images`; for each of `FIGURES` the value of `base` and of `own`, and what
        `vitask.evaluation.uncertainty.paired_ratios` says, images being drawn; `right`, with `only_own` and
        `only_base`, the questions that one alone has right. Without rivals nothing is ranked.
    """
    import numpy as np

    from vitask.evaluation.uncertainty import paired_ratios

    images = np.unique([row["image"] for row in own], return_inverse=True)[1]
    sides = [_by_image(rows, images) for rows in (base, own)]
    values = [{name: above.sum() / below.sum() for name, (above, below) in side.items()} for side in sides]
    found = paired_ratios(sides[1], sides[0])
    right = [[float(row["exact_match"]) == 1 for row in rows] for rows in (base, own)]
    pairs = list(zip(*right, strict=True))
    return {
        "samples": len(own),
        "images": int(images.max()) + 1,
        "right": {"only_base": pairs.count((True, False)), "only_own": pairs.count((False, True))},
        **{name: {"base": float(values[0][name]), "own": float(values[1][name]), **of} for name, of in found.items()},
    }


def require_comparable(path: Path, rows: Rows) -> None:
    """Raise a `VitaskError` if an evaluation of answers in words lacks what a comparison needs."""
    if missing := sorted(COLUMNS - rows[0].keys()):
        raise VitaskError(f"{path}: has no column '{missing[0]}'; evaluate again with overwrite=true")


def _by_image(rows: Rows, images: Any) -> Parts:
    """What each image adds to each figure, above and below the line."""
    import numpy as np

    ones = [1.0] * len(rows)
    parts = {name: ([float(row[name]) for row in rows], ones) for name in ("exact_match", "token_f1")}
    if any(row["place"] for row in rows):
        ranked = [float(bool(row["place"])) for row in rows]
        parts["rank_accuracy"] = ([float(row["place"] == "1") for row in rows], ranked)
    parts["log_likelihood"] = ([float(row["log_likelihood"]) for row in rows], [float(row["tokens"]) for row in rows])
    return {name: tuple(np.bincount(images, part) for part in pair) for name, pair in parts.items()}
