"""Whether two models differ on the same samples: a permutation test that swaps their answers sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

SEED = 0
MOST_EXACT = 14
"""Samples of which every way to swap is looked at."""
VALUES = 1 << 20
"""Counts held at once."""
ROUNDING = 1e-10


def swap_test(sizes: np.ndarray, differences: Callable[[np.ndarray], np.ndarray], draws: int) -> np.ndarray:
    """Test whether two models are exchangeable: how often a difference is as large when some answers change sides.

    Args:
        sizes: how many samples each group of equal ones has, int `(groups,)`; 0 where both models say the same, as
            swapping them changes nothing.
        differences: from how many of each group are swapped, `(ways, groups)`, to the figures' differences,
            `(ways, figures)`.
        draws: how many random swaps are looked at, where there are more than 14 samples to swap.

    Returns:
        The two-sided p of each figure, `(figures,)`: the share of swaps whose difference is as far from zero as that of
        the models as they are, which counts as one draw more where swaps are drawn. Swaps without a defined difference
        are left out; NaN where the models' own is not defined.

    Example:
        >>> swap_test(np.ones(4, int), lambda swapped: 4 - 2 * swapped.sum(-1, keepdims=True), 99)
        array([0.125])

    Source: Good, Permutation, Parametric, and Bootstrap Tests of Hypotheses, 2005; Phipson and Smyth, Permutation
    P-values Should Never Be Zero, 2010.
    """
    observed = np.abs(differences(np.zeros((1, len(sizes))))[0])
    own = int(sizes.sum() > MOST_EXACT)
    as_far, defined = np.full((2, len(observed)), own)
    for swapped in _ways(sizes, draws):
        found = np.abs(differences(swapped))
        as_far += (found >= observed - ROUNDING).sum(0)
        defined += (~np.isnan(found)).sum(0)
    return np.where(np.isnan(observed), np.nan, as_far / np.maximum(defined, 1))


def _ways(sizes: np.ndarray, draws: int) -> Iterator[np.ndarray]:
    """Yield how many of each group are swapped, `(ways, groups)`, in parts: every way, or random ones of many."""
    rng, samples = np.random.default_rng(SEED), int(sizes.sum())
    most = max(1, VALUES // len(sizes))
    exact = samples <= MOST_EXACT
    ways = 1 << samples if exact else draws
    member = np.eye(len(sizes))[np.repeat(np.arange(len(sizes)), sizes)] if exact else None
    for start in range(0, ways, most):
        number = np.arange(start, min(start + most, ways))
        if exact:
            yield (number[:, None] >> np.arange(samples) & 1) @ member
        else:
            yield rng.binomial(sizes, 0.5, size=(len(number), len(sizes))).astype(np.float64)
