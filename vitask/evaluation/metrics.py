"""How good predictions are, over the fixed label set; computed by scikit-learn."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-12


def label_metrics(targets: Tensor, probabilities: Tensor, multi_label: bool) -> dict[str, float]:
    """Score label probabilities.

    Args:
        targets: class indices `(N,)`, or multi-hot `(N, labels)`.
        probabilities: `(N, labels)`, over the labels, or of each label.
        multi_label: which of the two it is.

    Returns:
        `accuracy` (multi-label: the share of samples with exactly the right set; beside it `label_accuracy`, the mean
        over labels, which MedMNIST reports), `macro_f1` over all labels of the set, `auc` (macro, one label against the
        rest; NaN when it is not defined), `log_likelihood` (mean).
    """
    truth, scores = targets.numpy(), probabilities.double().numpy()
    if multi_label:
        predicted = scores > 0.5
        likelihood = np.where(truth > 0.5, scores, 1 - scores).clip(EPSILON)
        return {
            **set_metrics(truth > 0.5, predicted),
            "label_accuracy": float(((truth > 0.5) == predicted).mean()),
            "auc": _auc(truth, scores),
            "log_likelihood": float(np.log(likelihood).sum(-1).mean()),
        }
    one_hot = np.eye(scores.shape[1], dtype=bool)
    likelihood = scores[np.arange(len(truth)), truth].clip(EPSILON)
    return {
        **set_metrics(one_hot[truth], one_hot[scores.argmax(-1)]),
        "auc": _auc(one_hot[truth], scores),
        "log_likelihood": float(np.log(likelihood).mean()),
    }


def grade_metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score predicted grades `(N,)` of an ordered scale: quadratic-weighted kappa (NaN without spread), mean error.

    Example:
        >>> grade_metrics(np.array([0, 1, 2]), np.array([0, 1, 1]))["mae"]
        0.333...
    """
    from sklearn.metrics import cohen_kappa_score, mean_absolute_error

    constant = len({*truth.tolist(), *predicted.tolist()}) == 1
    kappa = math.nan if constant else float(cohen_kappa_score(truth, predicted, weights="quadratic"))
    return {"kappa": kappa, "mae": float(mean_absolute_error(truth, predicted))}


def set_metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score predicted label sets, bool `(N, labels)`: exact-set accuracy and macro-F1 over all labels.

    With one label a sample these are plain accuracy and macro-F1; an answer that is no label is an empty set, and
    counts as wrong without adding a class to the average.
    """
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
    }


def _auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Macro one-against-rest AUC; NaN when a label has no positive or no negative."""
    from sklearn.exceptions import UndefinedMetricWarning
    from sklearn.metrics import roc_auc_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        try:
            return float(roc_auc_score(truth, scores, average="macro"))
        except ValueError:
            return math.nan
