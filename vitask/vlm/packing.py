"""From prompts and the answers to follow them to one packed batch: a row an image, every answer a path of its tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from vitask.vlm.branches import TokenTree, pack_trees
from vitask.vlm.inputs import build_prefix

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.inputs import Placement
    from vitask.vlm.prompts import Prompt, Prompter


@dataclass(frozen=True)
class Continuation:
    """One answer behind one image.

    Attributes:
        row: number of the prompt that it follows.
        response: its token ids.
        exemplar: whether the prompt holds the exemplar.
    """

    row: int
    response: Sequence[int]
    exemplar: bool = False


class _Row:
    """The tree of one image, growing as answers are added."""

    def __init__(self, prompt: Prompt, placement: Placement | None, image_token_id: int) -> None:
        self.prompt = prompt
        self.placement = placement
        self.image_token_id = image_token_id
        self.tree = TokenTree()
        self.ends: dict[bool, tuple[int, int]] = {}
        self.places: list[tuple[list[int], Tensor]] = []

    def follow(self, continuation: Continuation) -> list[int]:
        """Add an answer and return the nodes whose logits predict its tokens."""
        end, position = self.ends.get(continuation.exemplar) or self._begin(continuation.exemplar)
        response = continuation.response[:-1]
        nodes = self.tree.add(response, after=end)
        self.places.append((nodes, torch.arange(position, position + len(nodes))))
        return [end, *nodes][: len(continuation.response)]

    def positions(self) -> Tensor:
        """Return the position of every node, `(P, T)`."""
        positions = torch.zeros(len(self.prompt.positions), len(self.tree), dtype=torch.long)
        for nodes, places in self.places:
            positions[:, nodes] = places
        return positions

    def _begin(self, exemplar: bool) -> tuple[int, int]:
        prefix = build_prefix(self.prompt, self.placement if exemplar else None, self.image_token_id)
        nodes = self.tree.add(prefix.keys)
        self.places.append((nodes, prefix.positions))
        self.ends[exemplar] = nodes[-1], int(prefix.positions.max()) + 1
        return self.ends[exemplar]


def pack(
    prompts: Sequence[Prompt],
    prompter: Prompter,
    placement: Placement | None,
    branches: Mapping[str, Sequence[Continuation]],
    label_sets: Sequence[Sequence[Continuation]] = (),
) -> dict[str, Any]:
    """Pack the answers of a batch so that everything they share is computed once.

    Args:
        prompts: one a row; those that hold exemplars in the order in which `exemplars` will hold them.
        prompter: which made them.
        placement: where exemplars go, if any continuation has one.
        branches: by name, one continuation a sample.
        label_sets: for each sample the answers to score against each other, if any.

    Returns:
        The rows: `input_ids (B, T)`, `position_ids (P, B, T)`, `exemplar_mask (B, T)`, `has_exemplar`, `image_index`
        (the images of the rows that hold one), `segments` and `ancestors` for `tree_mask`. What is read off them:
        `heads (U,)`, the flat places in `(B, T)` whose logits are wanted; `answers`, by branch the numbers `(N, R)` of
        these places, 0 on padding; `scored`, the tokens of the label sets: `heads`, `tokens` and `slots (E,)`, slot
        `n K + k` being label k of sample n, and `valid (N, K)`.
    """
    rows = [_Row(prompt, placement, prompter.image_token_id) for prompt in prompts]
    paths = {name: [(c.row, rows[c.row].follow(c)) for c in members] for name, members in branches.items()}
    label_paths = [[(c.row, rows[c.row].follow(c), c.response) for c in members] for members in label_sets]
    packed = pack_trees([row.tree for row in rows], prompter.pad_id)
    keys = packed.pop("keys")
    numbers: dict[int, int] = {}

    def number(row: int, node: int) -> int:
        return numbers.setdefault(row * keys.shape[1] + node, len(numbers))

    answers = {name: _padded([[number(row, n) for n in nodes] for row, nodes in path]) for name, path in paths.items()}
    scored = {"scored": _scored(label_paths, number)} if label_paths else {}
    return {
        **packed,
        "input_ids": keys.masked_fill(keys < 0, prompter.pad_id),
        "exemplar_mask": keys < 0,
        "has_exemplar": any(True in row.ends for row in rows),
        "position_ids": torch.stack([pad(row.positions(), (0, keys.shape[1] - len(row.tree))) for row in rows], dim=1),
        "image_index": [i for i, row in enumerate(rows) if prompter.image_token_id in row.tree.keys],
        "heads": torch.tensor(list(numbers)),
        "answers": answers,
        **scored,
    }


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)


def _scored(
    label_paths: Sequence[Sequence[tuple[int, list[int], Sequence[int]]]], number: Callable[[int, int], int]
) -> dict[str, Tensor]:
    """List the tokens of every sample's labels, each with the place that predicts it and the label that it adds to."""
    most = max(map(len, label_paths))
    edges = [
        (number(row, node), token, sample * most + label)
        for sample, paths in enumerate(label_paths)
        for label, (row, nodes, response) in enumerate(paths)
        for node, token in zip(nodes, response, strict=True)
    ]
    heads, tokens, slots = torch.tensor(edges).T
    counts = torch.tensor([len(paths) for paths in label_paths])
    return {"heads": heads, "tokens": tokens, "slots": slots, "valid": torch.arange(most) < counts[:, None]}
