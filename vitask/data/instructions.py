"""The instruction: what the model is asked, with or without the list of possible answers and a classifier's hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from vitask.data.task import TaskData
from vitask.errors import UsageError, did_you_mean

PLACEHOLDERS = ("modality", "labels", "definitions")
PREDICTION = "prediction"


@dataclass(frozen=True)
class Instruction:
    """A template for the instruction; the defaults are the paper's.

    Attributes:
        template: The complete instruction; may use ``{modality}``, ``{labels}`` and ``{definitions}``, the labels with
            what a label file says of them.
        incomplete_template: The instruction without the label set (section 6 of the paper's summary, Figure 4).
        complete: Which of the two `render` uses.

    Raises:
        UsageError: A template has an unknown placeholder or unbalanced braces.

    Example:
        >>> Instruction().render(digits)
        'Analyze the given handwritten digit image. The possible diagnoses are:zero, one, two, ...'
        >>> Instruction(complete=False).render(digits)
        'Analyze the given handwritten digit image.'
    """

    template: str = "Analyze the given {modality} image. The possible diagnoses are:{labels}."
    incomplete_template: str = "Analyze the given {modality} image."
    complete: bool = True

    def __post_init__(self) -> None:
        for template in (self.template, self.incomplete_template):
            _check(template, PLACEHOLDERS)

    def render(self, task: TaskData) -> str:
        """Return the instruction for ``task``, its labels joined by ``", "`` in canonical order."""
        template = self.template if self.complete else self.incomplete_template
        known = task.definitions
        definitions = "; ".join(f"{text}: {known[text]}" if text in known else text for text in task.labels)
        return template.format(modality=task.modality, labels=", ".join(task.labels), definitions=definitions)


@dataclass(frozen=True)
class Hint:
    """What a classifier's answer to the same image adds to the instruction.

    Attributes:
        template: A text with ``{prediction}``, to stand behind the instruction.
        separator: What joins the texts of several labels.
        no_finding: The prediction of no label.

    Raises:
        UsageError: The template has no ``{prediction}``, another placeholder, or unbalanced braces.

    Example:
        >>> Hint().added("What is it?", ["effusion", "mass"])
        "What is it? A classifier's answer is: effusion, mass."
    """

    template: str = " A classifier's answer is: {prediction}."
    separator: str = ", "
    no_finding: str = "no finding"

    def __post_init__(self) -> None:
        if PREDICTION not in _check(self.template, (PREDICTION,)):
            raise UsageError(f"hint template {self.template!r}: holds no {{{PREDICTION}}}, so it would say nothing")

    def added(self, instruction: str, labels: Sequence[str]) -> str:
        """Return the instruction with the predicted labels behind it."""
        return instruction + self.template.format(prediction=self.separator.join(labels) or self.no_finding)


def _check(template: str, placeholders: Sequence[str]) -> list[str]:
    """Return the placeholders of a template, all of them known."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise UsageError(f"instruction template {template!r}: {error}; write {{{{ and }}}} for plain braces") from error
    for field in fields:
        if field not in placeholders:
            valid = ", ".join(f"{{{name}}}" for name in placeholders)
            raise UsageError(
                f"instruction template {template!r}: unknown placeholder {{{field}}}; valid are {valid}."
                + did_you_mean(field, placeholders)
            )
    return fields
