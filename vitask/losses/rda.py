"""L_RDA, response distribution alignment: the branch with the exemplar teaches the branch without."""

from __future__ import annotations

from torch import Tensor, nn

from ._divergence import kl_divergence
from ._inputs import check_aligned, check_choice, check_positive, counted_logits
from .response import IGNORE_INDEX, REDUCTIONS, masked_mean

DIRECTIONS = ("student_first", "teacher_first")
MASKS = ("none", "teacher_right")


def rda_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    direction: str = "student_first",
    detach_teacher: bool = True,
    mask: str = "none",
    reduction: str = "token",
    normalizer: float | Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Mean over response tokens of the KL divergence between the branches' next-token distributions.

    The paper's form is the default: `KL(student || stopgrad teacher)`, where the student saw no exemplar. It is
    non-negative up to rounding and exactly zero for equal logits. A token at -inf in both branches (a masked
    vocabulary) contributes nothing; one that only the second distribution rules out makes the KL infinite, as defined.

    Args:
        student_logits: Floating point, `(..., T, V)`, aligned with the labels: the branch without exemplar.
        teacher_logits: Of the same shape: the branch with exemplar, or `smoothed_label_logits`, the control without.
        labels: Integers, `(..., T)`; read to see which positions are response, and by `mask`.
        temperature: Divides both logits; the KL is multiplied by its square so that gradients keep their scale
            (Hinton et al., 2015). 1 is the paper.
        direction: "student_first" is `KL(student || teacher)`, "teacher_first" the reverse.
        detach_teacher: Whether to stop the gradient at the teacher; False is the paper's RDA*.
        mask: "none" (the paper), or "teacher_right": where the teacher's likeliest token is not the label, the KL is
            read as 0. Such tokens still count in the mean: how many there are is known only after the forward pass, and
            a teacher that is seldom right should teach little.
        reduction: "token" or "sequence", see `masked_mean`.
        normalizer: Replaces the number of tokens (or sequences) divided by, see `masked_mean`.
        ignore_index: Marks what is not response.

    Returns:
        0-d, float32 for half precision, otherwise of the logits' dtype. No response: a zero attached to the graph.

    Raises:
        ValueError: Shapes, dtypes, the temperature, the direction, the mask or the reduction are wrong.

    Example:
        >>> import math
        >>> import torch
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(3)]])
        >>> round(rda_loss(student, teacher, torch.tensor([1])).item(), 4)  # log(4) / 2 + log(4/3) / 2 - log(2)
        0.1438

    Source: paper, section 2, L_RDA; RDA* of its ablation. The mask is ours.
    """
    _check_options(temperature, direction, mask)
    check_aligned(labels, student_logits=student_logits, teacher_logits=teacher_logits)
    valid = labels != ignore_index
    if detach_teacher:
        teacher_logits = teacher_logits.detach()
    taught = valid if mask == "none" else valid & (teacher_logits.argmax(-1) == labels)
    student = (counted_logits(student_logits, taught) / temperature).log_softmax(-1)
    teacher = (counted_logits(teacher_logits, taught) / temperature).log_softmax(-1)
    first, second = (student, teacher) if direction == "student_first" else (teacher, student)
    return temperature**2 * masked_mean(kl_divergence(first, second), valid, reduction, normalizer)


def _check_options(temperature: float, direction: str, mask: str) -> None:
    check_choice("direction", direction, DIRECTIONS)
    check_choice("mask", mask, MASKS)
    check_positive(temperature=temperature)


class RDALoss(nn.Module):
    """`rda_loss` as a module without parameters.

    Args:
        temperature: Divides both logits; greater than 0.
        direction: "student_first" (the paper) or "teacher_first".
        detach_teacher: False is the paper's RDA*.
        mask: "none" (the paper) or "teacher_right".
        reduction: "token" or "sequence".
        ignore_index: Marks what is not response.

    Raises:
        ValueError: An option is wrong.

    Example:
        >>> import torch
        >>> logits, labels = torch.randn(2, 3, 8), torch.tensor([[1, 2, 3], [4, -100, -100]])
        >>> RDALoss()(logits, logits, labels).item()
        0.0

    Source: paper, section 2, L_RDA.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        direction: str = "student_first",
        detach_teacher: bool = True,
        mask: str = "none",
        reduction: str = "token",
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        _check_options(temperature, direction, mask)
        check_choice("reduction", reduction, REDUCTIONS)
        self.temperature = temperature
        self.direction = direction
        self.detach_teacher = detach_teacher
        self.mask = mask
        self.reduction = reduction
        self.ignore_index = ignore_index

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, normalizer: float | Tensor | None = None
    ) -> Tensor:
        """See `rda_loss`."""
        return rda_loss(
            student_logits,
            teacher_logits,
            labels,
            temperature=self.temperature,
            direction=self.direction,
            detach_teacher=self.detach_teacher,
            mask=self.mask,
            reduction=self.reduction,
            normalizer=normalizer,
            ignore_index=self.ignore_index,
        )

    def extra_repr(self) -> str:
        """The options, for `repr`."""
        return (
            f"temperature={self.temperature}, direction={self.direction!r}, detach_teacher={self.detach_teacher}, "
            f"mask={self.mask!r}, reduction={self.reduction!r}, ignore_index={self.ignore_index}"
        )
