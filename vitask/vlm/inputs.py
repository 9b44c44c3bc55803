"""From prompts to padded token tensors: the exemplar's slots, the response, and the branches of a batch."""

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
class TokenSequence:
    """Token ids of one branch of one sample; the exemplar's slots and the response are known by position."""

    ids: tuple[int, ...]
    exemplar: range
    response: range


def build_sequence(
    prompt: Prompt, response: Sequence[int], placement: Placement | None, image_token_id: int, slot_id: int
) -> TokenSequence:
    """Join prompt, exemplar slots and response into one run of ids.

    Args:
        prompt: the tokenised conversation.
        response: response ids, possibly empty (inference).
        placement: where the exemplar goes; `None` for a branch without exemplar.
        image_token_id: the image placeholder, taken out under `replace_image`.
        slot_id: any id that is not the image placeholder; its embedding is overwritten by the exemplar.
    """
    head, body, tag = prompt.head, prompt.body, prompt.tag
    slots = (slot_id,) * (placement.tokens if placement else 0)
    position = placement.position if placement else "after_image"
    if position == "replace_image":
        first = head.index(image_token_id)
        before, after = head[:first], (*(t for t in head[first:] if t != image_token_id), *body, *tag)
    elif position == "after_image":
        before, after = head, (*body, *tag)
    else:
        before, after = (*head, *body), tag
    ids = (*before, *slots, *after, *response)
    return TokenSequence(
        ids=ids,
        exemplar=range(len(before), len(before) + len(slots)),
        response=range(len(ids) - len(response), len(ids)),
    )


def pad_sequences(sequences: Sequence[TokenSequence], pad_id: int, *, left: bool = False) -> dict[str, Tensor]:
    """Pad a branch to one length.

    Returns:
        `input_ids` and `attention_mask` `(B, T)` int64, `exemplar_mask` `(B, T)` bool, and `answer_positions`
        `(B, R)` int64: the positions whose logits predict the response tokens, zero-padded to the longest response.
    """
    length = max(len(s.ids) for s in sequences)
    longest = max(len(s.response) for s in sequences)
    ids = torch.full((len(sequences), length), pad_id)
    attention = torch.zeros_like(ids)
    exemplar = torch.zeros_like(ids, dtype=torch.bool)
    answers = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, s in enumerate(sequences):
        offset = length - len(s.ids) if left else 0
        ids[row, offset : offset + len(s.ids)] = torch.tensor(s.ids)
        attention[row, offset : offset + len(s.ids)] = 1
        exemplar[row, offset + s.exemplar.start : offset + s.exemplar.stop] = True
        answers[row, : len(s.response)] = torch.tensor(s.response, dtype=torch.long) + offset - 1
    return {"input_ids": ids, "attention_mask": attention, "exemplar_mask": exemplar, "answer_positions": answers}


def make_branch(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    placement: Placement | None,
    image_index: Sequence[int],
    prompter: Prompter,
    *,
    left: bool = False,
) -> dict[str, Tensor]:
    """Build one branch of a batch, row by row from a prompt, a response and the number of its image in the batch.

    Returns:
        What `pad_sequences` gives, and `image_index (B,)` int64 unless the exemplar replaces the images.
    """
    token, pad = prompter.image_token_id, prompter.pad_id
    rows = [build_sequence(p, r, placement, token, pad) for p, r in zip(prompts, responses, strict=True)]
    branch = pad_sequences(rows, pad, left=left)
    if placement is None or placement.position != "replace_image":
        branch["image_index"] = torch.tensor(image_index)
    return branch


def stack_images(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Concatenate the image inputs of several prompts.

    Returns:
        `images`, the model's image inputs, and `image_tokens`, the number of embeddings of each image.
    """
    images = {key: torch.cat([p.images[key] for p in prompts]) for key in prompts[0].images}
    return {"images": images, "image_tokens": [p.image_tokens for p in prompts]}
