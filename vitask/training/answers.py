"""What the answers of a step begin with: enough to notice in training that all of them have become the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AnswerCounts(nn.Module):
    """Counts what is answered and what is right at the token where the answers of a closed set first part.

    Args:
        responses: the token ids of every answer.

    Example:
        >>> counts = AnswerCounts([[5, 7, 0], [5, 8, 0]])
        >>> logits = torch.zeros(2, 3, 9)
        >>> logits[:, 1, 8] = 1
        >>> counts(logits, torch.tensor([[5, 7, 0], [5, 8, 0]])).tolist()
        [[0, 2], [1, 1]]
    """

    def __init__(self, responses: Sequence[Sequence[int]]) -> None:
        super().__init__()
        columns = enumerate(zip(*responses, strict=False))  # none is the beginning of another: all end alike
        self.place = next((place for place, tokens in columns if len(set(tokens)) > 1), 0)
        tokens = sorted({response[self.place] for response in responses if len(response) > self.place})
        self.register_buffer("tokens", torch.tensor(tokens, dtype=torch.long), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Count in one micro-batch; counts of several add up.

        Args:
            logits: `(B, R, V)`, of the right responses.
            labels: `(B, R)`, their tokens.

        Returns:
            `(2, T)` int64 over the tokens with which answers may go on: how often each is the likeliest, and how often
            it is right.
        """
        given = torch.stack([logits.detach()[:, self.place].argmax(-1), labels[:, self.place]])
        return (given[..., None] == self.tokens).sum(1)
