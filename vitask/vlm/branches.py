"""One prefix, several continuations: token sequences that share prefixes, as one run of tokens with a tree mask.

This file knows tokens and indices, no model. A row of the packed form holds every sequence that starts from one image;
`pack_trees` lays the rows out, and `tree_mask` lets each token attend to what stands before it in its own sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

ROOT = -1


class TokenTree:
    """Token sequences that share prefixes, each shared token stored once; nodes are numbered parents first.

    Example:
        >>> tree = TokenTree()
        >>> tree.add([7, 8, 9]), tree.add([7, 8, 5]), tree.add([6], after=1)
        ([0, 1, 2], [0, 1, 3], [4])
    """

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.parents: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.keys)

    def add(self, keys: Iterable[int], after: int = ROOT) -> list[int]:
        """Add a sequence behind a node, and return the node of each of its tokens."""
        nodes = []
        for key in keys:
            node = self._children.setdefault((after, key), len(self.keys))
            if node == len(self.keys):
                self.keys.append(key)
                self.parents.append(after)
            nodes.append(node)
            after = node
        return nodes

    def segments(self) -> tuple[np.ndarray, np.ndarray]:
        """Cut the tree into unbranched runs.

        Returns:
            The segment of each node `(T,)`, and for each pair of segments whether the second is the first or one of its
            ancestors, `(S, S)` bool.
        """
        parents, index = np.array(self.parents), np.arange(len(self))
        children = np.bincount(parents[parents != ROOT], minlength=len(self))
        starts = (parents != index - 1) | (parents == ROOT) | (children[parents] > 1)
        segments = np.cumsum(starts) - 1
        ancestors = np.eye(segments[-1] + 1, dtype=bool)
        for segment, parent in enumerate(parents[starts]):
            if parent != ROOT:
                ancestors[segment] |= ancestors[segments[parent]]
        return segments, ancestors


def pack_trees(trees: Sequence[TokenTree], pad_key: int) -> dict[str, Tensor]:
    """Lay trees out as padded rows.

    Returns:
        `keys (B, T)` int64, `pad_key` on padding; `segments (B, T)` int64, the padding having one of its own; and
        `ancestors (B, S, S)` bool: which segments a segment sees.
    """
    cut = [tree.segments() for tree in trees]
    longest, most = max(map(len, trees)), max(len(ancestors) for _, ancestors in cut)
    keys = torch.full((len(trees), longest), pad_key)
    segments = torch.full_like(keys, most)
    ancestors = torch.eye(most + 1, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, (tree, (own, seen)) in enumerate(zip(trees, cut, strict=True)):
        keys[row, : len(tree)] = torch.tensor(tree.keys)
        segments[row, : len(tree)] = torch.from_numpy(own)
        ancestors[row, : len(seen), : len(seen)] = torch.from_numpy(seen)
    return {"keys": keys, "segments": segments, "ancestors": ancestors}


def tree_mask(segments: Tensor, ancestors: Tensor) -> Tensor:
    """Say which token may attend to which.

    Args:
        segments: `(B, T)` int64, from `pack_trees`.
        ancestors: `(B, S, S)` bool.

    Returns:
        `(B, 1, T, T)` bool: entry (i, j) is true when token j is token i or stands before it in its sequence. Padding
        attends to padding alone, so that no row of the mask is empty.
    """
    rows = torch.arange(len(segments), device=segments.device)[:, None, None]
    related = ancestors[rows, segments[:, :, None], segments[:, None, :]]
    return related.tril().unsqueeze(1)
