"""The instruction: what the model is asked, with or without the list of possible answers."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter

from vitask.data.task import TaskData
from vitask.errors import UsageError, did_you_mean

PLACEHOLDERS = ("modality", "labels", "definitions")


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
            _check(template)

    def render(self, task: TaskData) -> str:
        """Return the instruction for ``task``, its labels joined by ``", "`` in canonical order."""
        template = self.template if self.complete else self.incomplete_template
        known = task.definitions
        definitions = "; ".join(f"{text}: {known[text]}" if text in known else text for text in task.labels)
        return template.format(modality=task.modality, labels=", ".join(task.labels), definitions=definitions)


def _check(template: str) -> None:
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise UsageError(f"instruction template {template!r}: {error}; write {{{{ and }}}} for plain braces") from error
    for field in fields:
        if field not in PLACEHOLDERS:
            valid = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise UsageError(
                f"instruction template {template!r}: unknown placeholder {{{field}}}; valid are {valid}."
                + did_you_mean(field, PLACEHOLDERS)
            )
