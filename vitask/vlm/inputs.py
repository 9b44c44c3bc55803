"""From prompts to padded token tensors, one row a sequence: the exemplar's slots, the response, the image's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.prompts import Prompt, Prompter

POSITIONS = ("after_image", "before_assistant", "replace_image")


@dataclass(frozen=True)
class Placement:
    """Where the exemplar's embeddings stand in the sequence, and how many there are.

    The paper says that they join the image tokens. `after_image` puts them right behind the last image embedding,
    `before_assistant` between instruction and answer, `replace_image` in the place of all image embeddings (EP_rep).

    Raises:
        ValueError: the position is unknown or `tokens` is not positive.
    """

    position: str
    tokens: int

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise ValueError(f"exemplar position must be one of {', '.join(POSITIONS)}, not '{self.position}'")
        if self.tokens < 1:
            raise ValueError(f"an exemplar has at least one token, not {self.tokens}")


@dataclass(frozen=True)
class Prefix:
    """What stands before the answer.

    Attributes:
        keys: token ids; -1, -2, ... stand for the exemplar's slots.
        positions: rotary positions `(P, len(keys))` int64. What follows goes on by 1 a token.
    """

    keys: tuple[int, ...]
    positions: Tensor

    def followed_by(self, response: Sequence[int]) -> Prefix:
        """Append a response."""
        return Prefix((*self.keys, *response), _continued(self.positions, len(response)))


def build_prefix(prompt: Prompt, placement: Placement | None, image_token_id: int) -> Prefix:
    """Join a prompt and the exemplar's slots.

    Args:
        prompt: the tokenised conversation.
        placement: where the exemplar goes; `None` for a branch without exemplar.
        image_token_id: the image placeholder, taken out under `replace_image`.
    """
    head, body, tag = prompt.head, prompt.body, prompt.tag
    slots = tuple(-1 - slot for slot in range(placement.tokens)) if placement else ()
    position = placement.position if placement else "after_image"
    if position == "replace_image":
        first = head.index(image_token_id)
        keys = (*head[:first], *slots, *(t for t in head[first:] if t != image_token_id), *body, *tag)
        return Prefix(keys, _continued(prompt.positions[:, :first], len(keys) - first))
    keys = (*head, *slots, *body, *tag) if position == "after_image" else (*head, *body, *slots, *tag)
    return Prefix(keys, _continued(prompt.positions, len(keys) - len(head)))


def _continued(positions: Tensor, count: int) -> Tensor:
    """Append `count` text positions behind the largest one."""
    start = int(positions.max()) + 1 if positions.numel() else 0
    return torch.cat([positions, torch.arange(start, start + count).expand(len(positions), -1)], dim=1)


def pad_sequences(
    sequences: Sequence[Prefix], lengths: Sequence[int], pad_id: int, *, left: bool = False
) -> dict[str, Tensor]:
    """Pad a branch to one length.

    Args:
        sequences: prefix and response of each row.
        lengths: how many of each row's last tokens are the response.
        pad_id: fills the padding, and the exemplar's slots, whose embeddings are overwritten.
        left: pad on the left, for generation.

    Returns:
        `input_ids` and `attention_mask` `(B, T)` int64, `position_ids` `(P, B, T)` int64, `exemplar_mask` `(B, T)`
        bool, and `answer_positions` `(B, R)` int64: the positions whose logits predict the response tokens, zero-padded
        to the longest response.
    """
    longest = max(len(s.keys) for s in sequences)
    ids = torch.full((len(sequences), longest), pad_id)
    attention = torch.zeros_like(ids)
    positions = torch.zeros(len(sequences[0].positions), *ids.shape, dtype=torch.long)
    exemplar = torch.zeros_like(ids, dtype=torch.bool)
    answers = torch.zeros(len(sequences), max(lengths), dtype=torch.long)
    for row, (s, length) in enumerate(zip(sequences, lengths, strict=True)):
        keys = torch.tensor(s.keys)
        start = longest - len(keys) if left else 0
        place = slice(start, start + len(keys))
        ids[row, place] = keys.masked_fill(keys < 0, pad_id)
        attention[row, place] = 1
        positions[:, row, place] = s.positions
        exemplar[row, place] = keys < 0
        answers[row, :length] = torch.arange(len(keys) - length, len(keys)) + start - 1
    return {
        "input_ids": ids,
        "attention_mask": attention,
        "position_ids": positions,
        "exemplar_mask": exemplar,
        "answer_positions": answers,
    }


def make_branch(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    placement: Placement | None,
    image_index: Sequence[int],
    prompter: Prompter,
    *,
    left: bool = False,
) -> dict[str, Any]:
    """Build one branch of a batch, row by row from a prompt, a response and the number of its image in the batch.

    Returns:
        What `pad_sequences` gives, `has_exemplar`, and `image_index`, the image of each row, unless the exemplar
        replaces the images.
    """
    rows = [
        build_prefix(prompt, placement, prompter.image_token_id).followed_by(response)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    branch: dict[str, Any] = pad_sequences(rows, list(map(len, responses)), prompter.pad_id, left=left)
    branch["has_exemplar"] = placement is not None
    if placement is None or placement.position != "replace_image":
        branch["image_index"] = list(image_index)
    return branch


def label_branch(
    prompts: Sequence[Prompt],
    image_index: Sequence[int],
    label_sets: Sequence[Sequence[Sequence[int]]],
    prompter: Prompter,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """Build the branch that scores, for each prompt, the labels of a set: one row a label, whatever that costs.

    Args:
        prompts: one a sample.
        image_index: the number of each prompt's image in the batch.
        label_sets: for each sample the token ids of its labels.
        prompter: which made the prompts.
        placement: where the exemplar goes, to score with it.

    Returns:
        What `make_branch` gives for `B K` rows, and `targets (B, K, R)` int64, -1 on padding.
    """
    most = max(map(len, label_sets))
    padded = [[*labels, *[()] * (most - len(labels))] for labels in label_sets]
    responses = [response for labels in padded for response in labels]
    repeated = [(prompt, image) for prompt, image in zip(prompts, image_index, strict=True) for _ in range(most)]
    branch = make_branch([p for p, _ in repeated], responses, placement, [i for _, i in repeated], prompter)
    tokens = [torch.tensor(response, dtype=torch.long) for response in responses]
    targets = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)
    return {**branch, "targets": targets.view(len(padded), most, -1)}


def stack_images(prompts: Sequence[Prompt], prompter: Prompter) -> dict[str, Any]:
    """Join the image inputs of several prompts.

    Returns:
        `images`, the model's image inputs, and `image_tokens`, the number of embeddings of each image.
    """
    images = prompter.family.stack_images([prompt.images for prompt in prompts])
    return {"images": images, "image_tokens": [prompt.image_tokens for prompt in prompts]}
