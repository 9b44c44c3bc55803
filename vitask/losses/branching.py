"""Branching tokens: the positions of a response at which the labels of a closed set still differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ._inputs import check_labels
from .response import IGNORE_INDEX


class BranchingMask:
    """Marks, in rows of response tokens, the positions at which the closed set of labels branches.

    Position t branches when the labels that share the row's first t tokens go on with at least two different tokens.
    Elsewhere the continuation is settled by the text alone and says nothing about the image.

    Args:
        label_tokens: The closed set: one sequence of token ids a label, each with its end-of-turn token (without it a
            label that is a prefix of another one ends where no token can tell them apart).
        ignore_index: Marks what is not response.

    Raises:
        ValueError: The set or one of its labels is empty, or a label holds `ignore_index`.

    Example:
        >>> import torch
        >>> branching = BranchingMask([[5, 6, 0], [5, 7, 0], [8, 0]])
        >>> branching(torch.tensor([[5, 6, 0], [8, 0, -100]])).tolist()
        [[True, True, False], [True, False, False]]

    Source: ours, for L_CRT of the paper (section 2), which uses all response tokens.
    """

    def __init__(self, label_tokens: Sequence[Sequence[int]], *, ignore_index: int = IGNORE_INDEX) -> None:
        labels = _as_tuples(label_tokens)
        if not labels or () in labels:
            raise ValueError(f"label_tokens must hold at least one label, and no empty one; got {labels}")
        if any(ignore_index in label for label in labels):
            raise ValueError(f"label_tokens must not hold ignore_index ({ignore_index}); got {labels}")
        self.ignore_index = ignore_index
        followers: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for label in labels:
            for t, token in enumerate(label):
                followers[label[:t]].add(token)
        self._branching = {label: [len(followers[label[:t]]) > 1 for t in range(len(label))] for label in labels}

    def __call__(self, labels: Tensor) -> Tensor:
        """Mark the branching positions.

        The lookup runs on the host; on an accelerator, compute the mask where the batch is collated.

        Args:
            labels: Integers, `(..., T)`; the tokens of a row other than `ignore_index` are one label of the set, or
                there are none.

        Returns:
            bool, `(..., T)`, on the labels' device.

        Raises:
            ValueError: A row is not in the set, or the labels are not integers of at least one dimension.
        """
        check_labels(labels)
        if labels.ndim == 0:
            raise ValueError("labels must have shape (..., T); got a scalar")
        rows = labels.reshape(-1, labels.shape[-1]).tolist() if labels.numel() else []
        marks = [self._mark(index, row) for index, row in enumerate(rows)]
        return torch.tensor(marks, dtype=torch.bool, device=labels.device).reshape(labels.shape)

    def _mark(self, index: int, row: list[int]) -> list[bool]:
        label = tuple(token for token in row if token != self.ignore_index)
        if label and label not in self._branching:
            raise ValueError(f"row {index} of labels, {list(label)}, is not one of the {len(self._branching)} labels")
        marks = iter(self._branching.get(label, []))
        return [token != self.ignore_index and next(marks) for token in row]


def branching_mask(labels: Tensor, label_tokens: Sequence[Sequence[int]], ignore_index: int = IGNORE_INDEX) -> Tensor:
    """`BranchingMask(label_tokens)(labels)`, remembering the closed sets that it has seen.

    Args:
        labels: Integers, `(..., T)`: aligned response tokens, one label of the set a row, padded with `ignore_index`
            on either side; a row without any token has no branching position.
        label_tokens: The closed set: one sequence of token ids a label, each with its end-of-turn token.
        ignore_index: Marks what is not response.

    Returns:
        bool, `(..., T)`.

    Raises:
        ValueError: A row is not in the set (the message names it), or the set is not valid.

    Example:
        >>> import torch
        >>> branching_mask(torch.tensor([5, 7, 0, -100]), [[5, 6, 0], [5, 7, 0], [8, 0]]).tolist()
        [True, True, False, False]

    Source: ours, for L_CRT of the paper (section 2), which uses all response tokens.
    """
    return _remembered(_as_tuples(label_tokens), ignore_index)(labels)


@lru_cache(maxsize=128)
def _remembered(label_tokens: tuple[tuple[int, ...], ...], ignore_index: int) -> BranchingMask:
    return BranchingMask(label_tokens, ignore_index=ignore_index)


def _as_tuples(label_tokens: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(token) for token in label) for label in label_tokens)
