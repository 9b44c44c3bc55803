"""How far figures would move with other samples: the bootstrap, and paired tests of two models on the same samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.evaluation.swaps import swap_test

if TYPE_CHECKING:
    from vitask.evaluation.metrics import Predictions

LEVEL = 0.95
SEED = 0
RESAMPLES, PAIRED_RESAMPLES = 1000, 10_000
VALUES = 1 << 20
"""Counts held at once; more would not fit a processor's cache."""
Parts = Mapping[str, tuple[np.ndarray, np.ndarray]]


def bootstrap_intervals(predictions: Predictions, resamples: int = RESAMPLES) -> dict[str, list[float]]:
    """Return 95 % percentile intervals over samples drawn with replacement, always the same draws.

    Args:
        predictions: of a split; without scores there is no interval of the AUC.
        resamples: how many times the split is drawn.

    Returns:
        `[low, high]` of `accuracy`, `balanced_accuracy`, `macro_f1` and `auc`; NaN for a single sample. Draws in which
        the AUC of some label is not defined are left out; where it is not defined at all, its ends are NaN.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    found = _figures(predictions, _draws(len(predictions.truth), resamples))
    if len(predictions.truth) == 1:
        return {name: [math.nan, math.nan] for name in found}
    return {name: percentile_interval(values) for name, values in found.items()}


def bootstrap_ratios(parts: Parts, resamples: int = RESAMPLES) -> dict[str, list[float]]:
    """Return 95 % percentile intervals of ratios of sums over samples, of means for one, from the same draws as above.

    Args:
        parts: by name what each sample adds above and below the line, `(N,)` each; for a mean its value and 1, and 0
            and 0 for a sample without a value.
        resamples: how many times the split is drawn.

    Returns:
        `[low, high]` by name; NaN for a single sample.

    Example:
        >>> bootstrap_ratios({"exact_match": (np.ones(9), np.ones(9))})
        {'exact_match': [1.0, 1.0]}
    """
    samples = len(next(iter(parts.values()))[0])
    if samples == 1:
        return {name: [math.nan, math.nan] for name in parts}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in parts}
    for counts in _draws(samples, resamples):
        for name, (above, below) in parts.items():
            drawn[name].append(_share(counts.astype(np.float64) @ above, counts.astype(np.float64) @ below))
    return {name: percentile_interval(np.concatenate(values)) for name, values in drawn.items()}


def paired_bootstrap(own: Predictions, base: Predictions, resamples: int = PAIRED_RESAMPLES) -> dict[str, Any]:
    """Compare two models' answers on the same samples.

    Args:
        own: answers of the one model.
        base: those of the other.
        resamples: how many times the samples are drawn, the same of both, and how many swaps at most are drawn.

    Returns:
        For `accuracy` and `macro_f1` the `difference` own - base, its 95 % percentile `interval` over samples drawn
        with replacement, and a two-sided `p`: how often the difference is as large when the two models' answers to
        some samples are swapped, see `vitask.evaluation.swaps`. That of the accuracy is McNemar's.
    """
    samples, labels = own.truth.shape
    rows, counts = np.unique(np.hstack([own.truth, own.chosen, base.chosen]), axis=0, return_counts=True)
    truth, *answers = np.split(rows, [labels, 2 * labels], axis=1)
    first, second = (
        _figures(replace(own, truth=truth, chosen=each, scores=None), _grouped_draws(counts, resamples))
        for each in answers
    )
    p_values = _swapped_answers(
        replace(own, truth=truth, chosen=answers[0], scores=None), answers[1], counts, resamples
    )
    results = {}
    for name, p in p_values.items():
        difference, *gains = first[name] - second[name]
        results[name] = _paired(float(difference), np.array(gains), samples, p)
    return results


def _swapped_answers(own: Predictions, other: np.ndarray, counts: np.ndarray, draws: int) -> dict[str, float]:
    """The p of each figure of groups of equal samples, `counts` of them, by swapping answers with another model's."""
    names, differs = ("accuracy", "macro_f1"), (own.chosen != other).any(-1)
    both = replace(own, truth=np.vstack([own.truth] * 2), chosen=np.vstack([own.chosen, other]))

    def differences(swapped: np.ndarray) -> np.ndarray:
        sides = (counts - swapped, swapped), (swapped, counts - swapped)
        one, two = (weighted_figures(both, np.hstack(side)) for side in sides)
        return np.stack([one[name] - two[name] for name in names], axis=-1)

    found = swap_test(np.where(differs, counts, 0), differences, draws)
    return dict(zip(names, found.tolist(), strict=True))


def paired_ratios(own: Parts, base: Parts, resamples: int = PAIRED_RESAMPLES) -> dict[str, Any]:
    """Compare ratios of sums over the same samples, see `bootstrap_ratios`; each draw takes the same samples of both.

    Args:
        own: by name what each sample adds above and below the line.
        base: the same of the other model.
        resamples: how many times the samples are drawn, and how many swaps at most.

    Returns:
        By name the `difference` own - base, its 95 % percentile `interval` over samples drawn with replacement, and a
        two-sided `p`: how often the difference is as large when what the two models add for some samples is swapped,
        see `vitask.evaluation.swaps`. Draws and swaps in which a ratio is not defined are left out.

    Example:
        >>> one = np.ones(5)
        >>> paired_ratios({"exact_match": (one, one)}, {"exact_match": (0 * one, one)}, 99)
        {'exact_match': {'difference': 1.0, 'interval': [1.0, 1.0], 'p': 0.0625}}
    """
    samples = len(next(iter(own.values()))[0])
    gains: dict[str, list[np.ndarray]] = {name: [] for name in own}
    for counts in _draws(samples, resamples):
        for name in own:
            one, other = (_share(*(counts.astype(np.float64) @ part for part in side[name])) for side in (own, base))
            gains[name].append(one - other)
    results = {}
    for name, drawn in gains.items():
        one, other = (_share(*(part.sum(keepdims=True) for part in side[name])) for side in (own, base))
        p = _swapped_parts(np.array(own[name]), np.array(base[name]), resamples)
        results[name] = _paired((one - other).item(), np.concatenate(drawn), samples, p)
    return results


def _swapped_parts(own: np.ndarray, base: np.ndarray, draws: int) -> float:
    """The p of a ratio of sums, `(2, N)` above and below the line, by swapping the two models' samples."""
    change = base - own

    def differences(swapped: np.ndarray) -> np.ndarray:
        moved = change @ swapped.T
        return (_share(*(own.sum(-1)[:, None] + moved)) - _share(*(base.sum(-1)[:, None] - moved)))[:, None]

    return swap_test(change.any(0).astype(int), differences, draws).item()


def _paired(difference: float, gains: np.ndarray, samples: int, p: float) -> dict[str, Any]:
    """A difference, what its draws say of it, and its p."""
    ends = percentile_interval(gains) if samples > 1 else [math.nan, math.nan]
    return {"difference": difference, "interval": ends, "p": p}


def mcnemar(own_right: np.ndarray, base_right: np.ndarray) -> dict[str, float]:
    """Test whether two models are right equally often, by McNemar's exact test.

    Args:
        own_right: bool `(N,)`, whether the one model is right.
        base_right: the same of the other.

    Returns:
        `only_own` and `only_base`, the samples that one model alone has right, and the two-sided `p` (1 without any).

    Example:
        >>> mcnemar(np.array([True] * 5), np.array([False] * 5))
        {'only_own': 5, 'only_base': 0, 'p': 0.0625}
    """
    from scipy.stats import binomtest

    only_own, only_base = int((own_right & ~base_right).sum()), int((base_right & ~own_right).sum())
    p = float(binomtest(only_own, only_own + only_base).pvalue) if only_own + only_base else 1.0
    return {"only_own": only_own, "only_base": only_base, "p": p}


def percentile_interval(values: np.ndarray) -> list[float]:
    """Return where the middle 95 % of the values that are numbers begin and end; NaN without any."""
    values = values[~np.isnan(values)]
    if not len(values):
        return [math.nan, math.nan]
    return [float(end) for end in np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def weighted_figures(predictions: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the figures of several draws at once.

    Args:
        predictions: of `N` samples.
        counts: how often each draw holds each sample, float `(draws, N)`.

    Returns:
        `accuracy`, `balanced_accuracy`, `macro_f1` and, if there are scores, `auc`, each `(draws,)`, as
        `vitask.evaluation.metrics` has them.
    """
    truth, chosen = predictions.truth, predictions.chosen
    right = (truth == chosen).all(-1, keepdims=True)
    total, exact, hits, occurs, taken = (
        (counts @ sets.astype(counts.dtype)).astype(np.float64)
        for sets in (np.ones_like(right), right, truth & chosen, truth, chosen)
    )
    found = occurs + taken
    recalls = _share(hits, occurs)
    if predictions.multi_label:
        recalls = np.nanmean([recalls, _share(total - found + hits, total - occurs)], axis=0)
    figures = {
        "accuracy": (exact / total)[:, 0],
        "balanced_accuracy": np.nanmean(recalls, axis=-1),
        "macro_f1": np.divide(2 * hits, found, out=np.zeros_like(hits), where=found > 0).mean(-1),
    }
    if predictions.scores is not None:
        figures["auc"] = _weighted_auc(truth, predictions.scores, counts)
    return figures


def _figures(predictions: Predictions, parts: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    found = [weighted_figures(predictions, counts) for counts in parts]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def _draws(samples: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each draw holds each sample, `(draws, samples)`, in parts; the same for every split of that size.

    Counts below 2^24 are exact in float32.
    """
    rng = np.random.default_rng(SEED)
    most = max(1, VALUES // samples)
    for start in range(0, resamples, most):
        draws = min(most, resamples - start)
        drawn = rng.integers(samples, size=(draws, samples)) + samples * np.arange(draws)[:, None]
        yield np.bincount(drawn.ravel(), minlength=draws * samples).reshape(draws, samples).astype(np.float32)


def _grouped_draws(sizes: np.ndarray, resamples: int) -> Iterator[np.ndarray]:
    """Yield the sizes of groups of equal samples as they are, `(1, groups)`, then in each draw, in parts."""
    yield sizes[None].astype(np.float64)
    rng, samples = np.random.default_rng(SEED), sizes.sum()
    most = max(1, VALUES // len(sizes))
    for start in range(0, resamples, most):
        yield rng.multinomial(samples, sizes / samples, size=min(most, resamples - start)).astype(np.float64)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _weighted_auc(truth: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Macro AUC of each draw: the share of (positive, negative) pairs in the right order, ties half."""
    if not np.isfinite(scores).all():
        return np.full(len(counts), np.nan)
    by_sample = np.ascontiguousarray(counts.T)
    total = np.zeros(len(counts))
    for label in range(truth.shape[1]):
        yes, column = truth[:, label], scores[:, label]
        order = np.flatnonzero(~yes)[np.argsort(column[~yes])]
        below = np.zeros((len(order) + 1, len(counts)), counts.dtype)
        np.cumsum(by_sample[order], axis=0, out=below[1:])
        ends = [np.searchsorted(column[order], column[yes], side) for side in ("left", "right")]
        positives, smaller = by_sample[yes].astype(np.float64), (below[ends[0]] + below[ends[1]]) / 2
        total += _share((positives * smaller).sum(0), positives.sum(0) * below[-1])
    return total / truth.shape[1]
