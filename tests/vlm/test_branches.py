"""The pure description of shared prefixes, against sequences laid out one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitask.vlm.branches import ROOT, TokenTree, pack_trees, tree_mask

PAD = 99
sequences = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=8)


def make_tree(rows) -> tuple[TokenTree, list[list[int]]]:
    tree = TokenTree()
    return tree, [tree.add(row) for row in rows]


@given(sequences)
@settings(deadline=None)
def test_every_prefix_is_stored_once_and_every_path_spells_its_sequence(rows):
    tree, paths = make_tree(rows)
    prefixes = {tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)}
    assert len(tree) == len(prefixes)
    for row, path in zip(rows, paths, strict=True):
        assert [tree.keys[node] for node in path] == row
        assert [tree.parents[node] for node in path] == [ROOT, *path[:-1]]
    assert all(parent < node for node, parent in enumerate(tree.parents))


@given(st.lists(sequences, min_size=1, max_size=4))
@settings(deadline=None)
def test_a_token_sees_its_own_sequence_up_to_itself_and_nothing_else(batch):
    made = [make_tree(rows) for rows in batch]
    packed = pack_trees([tree for tree, _ in made], PAD)
    mask = tree_mask(packed["segments"], packed["ancestors"])[:, 0]
    longest = max(len(tree) for tree, _ in made)
    assert mask.shape == (len(batch), longest, longest)
    for number, (tree, paths) in enumerate(made):
        assert packed["keys"][number].tolist() == tree.keys + [PAD] * (longest - len(tree))
        seen = {path[t]: set(path[: t + 1]) for path in paths for t in range(len(path))}
        for node in range(len(tree)):
            assert set(mask[number, node].nonzero().flatten().tolist()) == seen[node]
        padding = set(range(len(tree), longest))
        for place in padding:
            attended = set(mask[number, place].nonzero().flatten().tolist())
            assert place in attended
            assert attended <= padding


@given(sequences)
@settings(deadline=None)
def test_segments_are_unbranched_runs_as_long_as_they_can_be(rows):
    tree, _ = make_tree(rows)
    segments, ancestors = tree.segments()
    children = [tree.parents.count(node) for node in range(len(tree))]
    for node, parent in enumerate(tree.parents):
        joined = node > 0 and segments[node] == segments[node - 1]
        assert joined == (parent == node - 1 and parent != ROOT and children[parent] == 1)
    assert len(ancestors) == segments[-1] + 1


def test_sequences_may_begin_behind_any_node():
    tree = TokenTree()
    first = tree.add([7, 8, 9])
    assert tree.add([6, 5], after=first[1]) == [3, 4]
    assert tree.add([6], after=first[2]) == [5]
    assert tree.add([], after=2) == []
    assert tree.add([7, 8, 6, 5]) == [0, 1, 3, 4]


def test_no_row_of_the_mask_is_empty_so_that_padding_makes_no_nan():
    packed = pack_trees([make_tree([[1]])[0], make_tree([[1, 2, 3], [1, 3]])[0]], PAD)
    mask = tree_mask(packed["segments"], packed["ancestors"])
    assert mask.any(-1).all()
    scores = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf).softmax(-1)
    assert scores.isfinite().all()


def test_rows_with_nothing_in_common_share_nothing():
    tree, paths = make_tree([[1, 2], [3, 4]])
    assert paths == [[0, 1], [2, 3]]
    _, ancestors = tree.segments()
    assert ancestors.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_the_mask_is_made_where_its_parts_are(device):
    packed = {k: v.to(device) for k, v in pack_trees([make_tree([[1, 2], [1, 3]])[0]], PAD).items()}
    assert tree_mask(packed["segments"], packed["ancestors"]).device.type == device
