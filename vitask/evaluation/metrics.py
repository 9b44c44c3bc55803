"""How good predictions are, over the fixed label set; computed by scikit-learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.evaluation.calibration import brier_score, calibration_error, reliability_bins

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-12


@dataclass(frozen=True)
class Predictions:
    """Truth and answers of a split as label sets; with one label a sample every set holds one.

    Attributes:
        truth: the right labels, bool `(N, labels)`.
        chosen: the labels of the answer, bool `(N, labels)`; an answer that is no label is an empty set.
        multi_label: whether a sample may have any number of labels.
        scores: float64 `(N, labels)`, the probability over the labels, or of each label; `None` without any.
    """

    truth: np.ndarray
    chosen: np.ndarray
    multi_label: bool
    scores: np.ndarray | None = None


def predictions_of(
    targets: Tensor, probabilities: Tensor, multi_label: bool, chosen: np.ndarray | None = None
) -> Predictions:
    """Put label probabilities beside the truth.

    Args:
        targets: class indices `(N,)`, or multi-hot `(N, labels)`.
        probabilities: `(N, labels)`, over the labels, or of each label.
        multi_label: which of the two it is.
        chosen: the answers as bool `(N, labels)`; by default the likeliest label, or all above one half.
    """
    scores = probabilities.double().numpy()
    one_hot = np.eye(scores.shape[1], dtype=bool)
    truth = targets.numpy() > 0.5 if multi_label else one_hot[targets.numpy()]
    if chosen is None:
        chosen = scores > 0.5 if multi_label else one_hot[scores.argmax(-1)]
    return Predictions(truth, chosen, multi_label, scores)


def label_metrics(predictions: Predictions) -> dict[str, float]:
    """Score the chosen labels and the probabilities: `set_metrics` and `score_metrics` together."""
    return {**set_metrics(predictions), **score_metrics(predictions)}


def set_metrics(predictions: Predictions) -> dict[str, float]:
    """Score the chosen labels.

    Returns:
        `accuracy` (of several labels: the share of samples with exactly the right set), `balanced_accuracy` (the mean
        recall of the labels that occur; of several labels: the mean over labels of the recalls of yes and no),
        `macro_f1` over all labels of the set, where a label that neither occurs nor is chosen counts 0, and
        `weighted_f1`, by how often the labels occur (NaN if none does).
    """
    from sklearn.metrics import accuracy_score, f1_score

    truth, chosen = predictions.truth, predictions.chosen
    return {
        "accuracy": float(accuracy_score(truth, chosen)),
        "balanced_accuracy": _balanced_accuracy(predictions),
        "macro_f1": float(f1_score(truth, chosen, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(truth, chosen, average="weighted", zero_division=0)) if truth.any() else math.nan,
    }


def score_metrics(predictions: Predictions) -> dict[str, float]:
    """Score the label probabilities.

    Returns:
        `auc` and `average_precision` (macro, one label against the rest; NaN when some label's is not defined),
        `log_likelihood` (mean over samples), `brier`, `ece` (see `vitask.evaluation.calibration`); of several labels
        also `label_accuracy`, the mean over labels at a threshold of one half, which MedMNIST reports.
    """
    truth, scores = predictions.truth, predictions.scores
    metrics = {"auc": float(np.mean(label_aucs(truth, scores))), "average_precision": _average_precision(truth, scores)}
    if predictions.multi_label:
        likelihood = np.where(truth, scores, 1 - scores).clip(EPSILON)
        metrics["log_likelihood"] = float(np.log(likelihood).sum(-1).mean())
        metrics["label_accuracy"] = float((truth == (scores > 0.5)).mean())
    else:
        metrics["log_likelihood"] = float(np.log(scores[truth].clip(EPSILON)).mean())
    metrics["brier"] = brier_score(truth, scores, predictions.multi_label)
    metrics["ece"] = calibration_error(reliability_bins(truth, scores, predictions.multi_label))
    return metrics


def grade_metrics(predictions: Predictions) -> dict[str, float]:
    """Score grades of an ordered scale: quadratic-weighted `kappa` (NaN without spread) and mean absolute error `mae`.

    Example:
        >>> truth, chosen = np.eye(3, dtype=bool)[[0, 1, 2]], np.eye(3, dtype=bool)[[0, 1, 1]]
        >>> grade_metrics(Predictions(truth, chosen, multi_label=False))["mae"]
        0.333...
    """
    from sklearn.metrics import cohen_kappa_score, mean_absolute_error

    truth, chosen = predictions.truth.argmax(-1), predictions.chosen.argmax(-1)
    constant = len({*truth.tolist(), *chosen.tolist()}) == 1
    grades = range(predictions.truth.shape[-1])  # one that does not occur still lies between the others
    kappa = math.nan if constant else float(cohen_kappa_score(truth, chosen, labels=grades, weights="quadratic"))
    return {"kappa": kappa, "mae": float(mean_absolute_error(truth, chosen))}


def class_metrics(predictions: Predictions, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Score each label alone, against the rest.

    Returns:
        By label `precision` (NaN if it is never chosen), `recall` (NaN if it never occurs), `f1` (0 if neither),
        `support` and `auc` (NaN if no sample, or every sample, has the label).
    """
    from sklearn.metrics import precision_recall_fscore_support

    figures = precision_recall_fscore_support(
        predictions.truth, predictions.chosen, average=None, zero_division=math.nan
    )
    aucs = label_aucs(predictions.truth, predictions.scores)
    return {
        label: {
            "precision": float(precision),
            "recall": float(recall),
            "f1": 0.0 if math.isnan(f1) else float(f1),
            "support": int(support),
            "auc": float(auc),
        }
        for label, precision, recall, f1, support, auc in zip(labels, *figures, aucs, strict=True)
    }


def confusions(predictions: Predictions, labels: Sequence[str]) -> dict[str, Any]:
    """Count what was taken for what, truth by row and answer by column.

    Returns:
        `confusion`, a matrix over the labels; or, with several labels a sample, `confusion_by_label`: for each label
        a matrix of no and yes.
    """
    from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix

    truth, chosen = predictions.truth, predictions.chosen
    if predictions.multi_label:
        tables = multilabel_confusion_matrix(truth, chosen).tolist()
        return {"confusion_by_label": dict(zip(labels, tables, strict=True))}
    counts = confusion_matrix(truth.argmax(-1), chosen.argmax(-1), labels=range(len(labels)))
    return {"confusion": counts.tolist()}


def label_aucs(truth: np.ndarray, scores: np.ndarray) -> list[float]:
    """Return the AUC of each label against the rest; NaN for one without positives or without negatives."""
    from sklearn.metrics import roc_auc_score

    if not np.isfinite(scores).all():
        return [math.nan] * truth.shape[1]
    defined = truth.any(0) & ~truth.all(0)
    return [
        float(roc_auc_score(truth[:, label], scores[:, label])) if defined[label] else math.nan
        for label in range(truth.shape[1])
    ]


def _average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import average_precision_score

    if not (np.isfinite(scores).all() and truth.any(0).all()):
        return math.nan
    return float(average_precision_score(truth, scores, average="macro"))


def _balanced_accuracy(predictions: Predictions) -> float:
    from sklearn.metrics import balanced_accuracy_score, recall_score

    truth, chosen = predictions.truth, predictions.chosen
    if not predictions.multi_label:
        return float(recall_score(truth, chosen, average="macro", labels=np.flatnonzero(truth.any(0)), zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label that every sample has, or none: its one recall counts
        return float(np.mean([balanced_accuracy_score(*columns) for columns in zip(truth.T, chosen.T, strict=True)]))
