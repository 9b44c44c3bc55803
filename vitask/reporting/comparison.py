"""Two models on the same samples: how far apart they are, and whether that is chance, over samples and over seeds."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import VitaskError
from vitask.reporting import open_comparison
from vitask.reporting.effects import interval, paired_test, signed
from vitask.reporting.table import markdown, number, spread

if TYPE_CHECKING:
    from vitask.evaluation.metrics import Predictions

FIGURES = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
TITLES = {**FIGURES, **open_comparison.FIGURES}
TESTS = {"accuracy": "mcnemar"}
"""Where the p of a figure stands in a comparison, if not beside its value."""
COUNTS = {"accuracy": "mcnemar", "exact_match": "right"}
"""Where it stands how many samples one of the two alone has right."""


@dataclass(frozen=True)
class AnswerFile:
    """One `predictions.csv`.

    Attributes:
        path: of the file.
        rows: by column, one a sample.
        sets: the labels that each text of truth and prediction stands for; `None` with one label a sample.
    """

    path: Path
    rows: Sequence[Mapping[str, str]]
    sets: Mapping[str, Sequence[str]] | None

    @property
    def labels(self) -> list[str]:
        """The label texts, as the columns of probabilities name them."""
        return [name[2:-1] for name in self.rows[0] if name.startswith("p(") and name.endswith(")")]

    @property
    def in_words(self) -> bool:
        """Whether they are answers to open questions."""
        return "response" in self.rows[0]

    @property
    def samples(self) -> list[tuple[str, ...]]:
        """Id and truth of each sample, and where there are several what was asked and among how many it was ranked."""
        keys = ("id", "response", "instruction", "rivals") if self.in_words else ("id", "truth")
        return [tuple(row[key] for key in keys) for row in self.rows]

    @cached_property
    def predictions(self) -> Predictions:
        """Truth and answers as label sets."""
        import numpy as np

        from vitask.evaluation.metrics import Predictions

        sets = {label: [label] for label in self.labels} if self.sets is None else self.sets
        table = {text: np.isin(self.labels, found) for text, found in sets.items()}
        try:
            truth, chosen = (np.stack([table[row[key]] for row in self.rows]) for key in ("truth", "prediction"))
        except KeyError as error:
            raise VitaskError(
                f"{self.path}: {error} is not one of {', '.join(self.labels)}; evaluate again with overwrite=true"
            ) from error
        return Predictions(truth, chosen, multi_label=self.sets is not None)


def read_answers(folder: Path) -> AnswerFile:
    """Read the predictions of one evaluation of one data set.

    Raises:
        VitaskError: a file is missing or damaged.
    """
    path = folder / "predictions.csv"
    try:
        sets = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("answers")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, AttributeError) as error:
        raise VitaskError(f"{folder}: predictions.csv or metrics.json is missing or damaged: {error}") from error
    if rows and {"id", "response"} <= rows[0].keys():
        open_comparison.require_comparable(path, rows)
    elif not rows or not {"id", "truth", "prediction"} <= rows[0].keys():
        raise VitaskError(f"{path}: expected the columns id, truth and prediction, and a row a sample")
    return AnswerFile(path, rows, sets)


def compare_answers(base: AnswerFile, own: AnswerFile) -> dict[str, Any]:
    """Compare two evaluations of the same samples.

    Returns:
        `samples`; for `accuracy` and `macro_f1` the value of `base` and of `own`, and what
        `vitask.evaluation.uncertainty.paired_bootstrap` says; and `mcnemar`, as the function of that name. Of answers
        in words what `compare_words` says.

    Raises:
        VitaskError: the samples, their order or their truths are not the same.
    """
    from vitask.evaluation.metrics import set_metrics
    from vitask.evaluation.uncertainty import mcnemar, paired_bootstrap

    _check_samples(base, own)
    if own.in_words:
        return open_comparison.compare_words(base.rows, own.rows)
    values = [set_metrics(each.predictions) for each in (base, own)]
    right = [(each.predictions.truth == each.predictions.chosen).all(-1) for each in (base, own)]
    found = paired_bootstrap(own.predictions, base.predictions)
    return {
        "samples": len(own.rows),
        **{name: {"base": values[0][name], "own": values[1][name], **found[name]} for name in FIGURES},
        "mcnemar": mcnemar(right[1], right[0]),
    }


def compare_seeds(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the comparisons of several seeds.

    Returns:
        `seeds`, and for each figure that all comparisons have the values of `base` and of `own`, one a seed, the mean
        `difference`, its 95 % t-`interval` and the `p` of the paired t-test; both NaN where they are not defined.
    """
    found: dict[str, Any] = {"seeds": len(comparisons)}
    for name in _figures_of(comparisons):
        gains = [each[name]["difference"] for each in comparisons]
        found[name] = {
            "base": [each[name]["base"] for each in comparisons],
            "own": [each[name]["own"] for each in comparisons],
            "difference": statistics.mean(gains),
            "interval": list(interval(gains)),
            "p": paired_test(gains),
        }
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests, so that one wrong find among them all is as rare as each claims.

    A NaN stands for no test: it stays, and does not count.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    adjusted, largest = list(p_values), 0.0
    tests = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    for rank, (p, place) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - rank) * p))
        adjusted[place] = largest
    return adjusted


def samples_table(split: str, comparisons: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out comparisons over samples as Markdown.

    Args:
        split: that was evaluated.
        comparisons: of each data set what `compare_answers` found.
    """
    rows = []
    in_words = all("images" in found for found in comparisons.values())
    counted = {"samples": "questions", "images": "images"} if in_words else {"samples": "n"}
    for key in _figures_of(list(comparisons.values())):
        for name, found in comparisons.items():
            p = found[TESTS.get(key, key)]["p"]
            alone = found[COUNTS[key]] if key in COUNTS else {}
            counts = [str(alone.get(side, "")) for side in ("only_base", "only_own")]
            sizes = [str(found[each]) for each in counted]
            rows.append(([f"{name} {TITLES[key]}".strip(), *sizes], found[key], p, counts))
    return _layout([split, *counted.values()], rows, len(comparisons), ["only A right", "only B right"])


def seeds_table(split: str, comparisons: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out comparisons over seeds as Markdown.

    Args:
        split: that was evaluated.
        comparisons: of each data set what `compare_seeds` found.
    """
    rows = [
        ([f"{name} {TITLES[key]}".strip(), str(found["seeds"])], found[key], found[key]["p"], [])
        for key in _figures_of(list(comparisons.values()))
        for name, found in comparisons.items()
    ]
    return _layout([split, "seeds"], rows, len(comparisons), [])


def _layout(first: Sequence[str], rows: Sequence[tuple], sets: int, last: Sequence[str]) -> str:
    """Rows of the same figure stand together; where there are several sets, their p are adjusted beside."""
    header = [*first, "A", "B", "B - A", "95 % interval", "p", *(["p, Holm"] if sets > 1 else []), *last]
    tested = [p for _, _, p, _ in rows]
    adjusted = [p for start in range(0, len(rows), sets) for p in holm(tested[start : start + sets])]
    body = [
        [
            *names, *(_value(found[side]) for side in ("base", "own")), signed(found["difference"]),
            " to ".join(map(signed, found["interval"])), number(p), *([number(holm_p)] if sets > 1 else []), *rest,
        ]
        for (names, found, p, rest), holm_p in zip(rows, adjusted, strict=True)
    ]  # fmt: skip
    return markdown(header, body)


def _figures_of(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures that all comparisons have, in the order of the table."""
    return [name for name in TITLES if all(name in each for each in comparisons)]


def _value(found: float | Sequence[float]) -> str:
    return spread(found) if isinstance(found, Iterable) else number(found)


def _check_samples(base: AnswerFile, own: AnswerFile) -> None:
    if len(base.rows) != len(own.rows):
        raise VitaskError(
            f"{base.path} has {len(base.rows)} samples, {own.path} has {len(own.rows)}: not the same split"
        )
    if base.in_words != own.in_words or base.labels != own.labels or (base.sets is None) != (own.sets is None):
        raise VitaskError(f"{base.path} and {own.path} do not have the same labels")
    for row, (first, second) in enumerate(zip(base.samples, own.samples, strict=True)):
        names = ("id", "truth", "instruction", "number of rivals")[: len(first)]
        for what, a, b in zip(names, first, second, strict=True):
            if a != b:
                raise VitaskError(
                    f"row {row}: the {what} is '{a}' in {base.path} and '{b}' in {own.path}; a paired comparison "
                    "needs the same samples in the same order"
                )
