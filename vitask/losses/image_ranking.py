"""Image ranking: of all images of a batch, those of a label must make its answer the likeliest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._inputs import (
    at_least_float32,
    check_bool,
    check_candidates,
    check_floating,
    check_labels,
    check_positive,
)
from .response import masked_mean


def image_ranking_positions(candidates: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Mark the samples that `image_ranking_loss` averages over; `count_valid` of it is what the loss divides by.

    A sample counts if its own answer was scored behind its own image and behind an image of the batch with another
    answer.

    Args:
        candidates: bool, `(B, K)`: which answers each image was scored against; column k is one answer for all images.
        targets: Integers, `(B,)`: the column of each sample's own answer.
        mask: bool, `(B,)`: false for samples that take no part, neither as themselves nor as another's image.

    Returns:
        bool, `(B,)`.

    Raises:
        ValueError: Shapes or dtypes are wrong.

    Example:
        >>> import torch
        >>> candidates = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
        >>> image_ranking_positions(candidates, torch.tensor([0, 1, 2])).tolist()
        [True, True, False]

    Source: ours; the paper has no closed-set term.
    """
    _check("candidates", candidates, targets, mask)
    check_bool(candidates=candidates)
    return _compared(_columns(candidates, targets, mask), targets, mask)[1]


def image_ranking_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Mean over samples of `-log p(own image)`, among it and the batch's images with another answer.

    The matrix of `ranking_loss` read by columns: `p = softmax(scores[:, target] / temperature)` over images says which
    image the answer is about, all being equally likely before. Other images with the same answer are left out of each
    sample's softmax: they are no negatives, so they must not be pushed down; and were they joined to the sample's own
    image in one sum, the easiest of them could take the whole of it and leave the others untaught. So every image of a
    label has to beat every image of another one, and 0 is reached when all do.

    Args:
        scores: Floating point, `(B, K)`: log-likelihoods of answers behind images; column k is one answer for all
            images; -inf where an image was not scored against an answer, as those of another data set.
        targets: Integers, `(B,)`: the column of each sample's own answer.
        mask: bool, `(B,)`: false for samples that take no part, neither as themselves nor as another's image, whatever
            their scores hold.
        temperature: Divides the scores; greater than 0. The loss is not multiplied by it.
        normalizer: Replaces the number of samples divided by, as in `masked_mean`; under gradient accumulation or
            several ranks, the sum of `count_valid(image_ranking_positions(..))` over all of them. Images are ranked
            within what one call is given.

    Returns:
        0-d, float32 for half precision, otherwise of the scores' dtype. Nothing counted: a zero attached to the graph.

    Raises:
        ValueError: Shapes, dtypes or the temperature are wrong.

    Example:
        >>> import torch
        >>> scores, targets = torch.zeros(3, 2), torch.tensor([0, 0, 1])
        >>> round(image_ranking_loss(scores, targets).item(), 4)  # (log(2) + log(2) + log(3)) / 3: one, one, two others
        0.8283

    Source: ours; L_CRT's idea (paper, section 2: the right image must make the answer likelier) on whole answers and
        all images of a batch.
    """
    check_positive(temperature=temperature)
    check_floating(scores=scores)
    _check("scores", scores, targets, mask)
    columns = _columns(scores, targets, mask)
    compared, taught = _compared(~columns.isneginf(), targets, mask)
    logits = at_least_float32(columns).masked_fill(~compared, 0.0) / temperature
    total = logits.masked_fill(~compared & taught, -torch.inf).logsumexp(0)
    return masked_mean(total - logits.diagonal(), taught, normalizer=normalizer)


def _columns(values: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    """The values of each sample's own answer, `(B, B)`: entry (i, j) is of sample j's answer behind image i."""
    return values[:, (targets if mask is None else targets.masked_fill(~mask, 0)).long()]


def _compared(scored: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which images compete for which sample's answer, `(B, B)`, its own among them; and which samples count, `(B,)`."""
    if mask is not None:
        scored = scored & mask.unsqueeze(-1)
    negatives = scored & (targets.unsqueeze(-1) != targets)
    own = scored.diagonal()
    return negatives | torch.diag(own), own & negatives.any(0)


def _check(name: str, values: Tensor, targets: Tensor, mask: Tensor | None) -> None:
    check_candidates(name, values, None, mask)
    check_labels(targets, "targets")
    if targets.shape != values.shape[:1]:
        raise ValueError(f"targets must have shape ({len(values)},); got {tuple(targets.shape)}")


class ImageRankingLoss(nn.Module):
    """`image_ranking_loss` as a module without parameters.

    Args:
        temperature: Divides the scores; greater than 0.

    Raises:
        ValueError: The temperature is wrong.

    Example:
        >>> ImageRankingLoss(temperature=2.0)
        ImageRankingLoss(temperature=2.0)

    Source: ours; the paper has no closed-set term.
    """

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature

    def forward(
        self, scores: Tensor, targets: Tensor, mask: Tensor | None = None, normalizer: float | Tensor | None = None
    ) -> Tensor:
        """See `image_ranking_loss`."""
        return image_ranking_loss(scores, targets, mask=mask, temperature=self.temperature, normalizer=normalizer)

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return f"temperature={self.temperature}"
