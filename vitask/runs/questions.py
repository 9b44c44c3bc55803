"""What a VLM is asked of each image, and what it may answer: rendered in training, kept with the run for inference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vitask.config.build import build_hints, build_instructions
from vitask.data import Hint, label_ranges, members_of, row_ranges
from vitask.errors import UsageError, VitaskError
from vitask.vlm.prompts import shown_image_word

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.vlm.prompts import Prompter


@dataclass(frozen=True)
class Question:
    """What a VLM is asked on one data set.

    Attributes:
        name: of the data set.
        labels: its label texts; none if it is open-ended.
        multi_label: whether an image may have any number of them.
        answers: the closed set of responses, each with the labels that it stands for.
        instruction: the rendered instruction; of an open-ended data set the one that all its training rows ask, if so.
        hint: how the TSM's prediction is added to it; None when it is not.
        first_label: the place of the data set's first label among the TSM's outputs.
    """

    name: str
    labels: Sequence[str]
    multi_label: bool
    answers: Sequence[tuple[str, tuple[int, ...]]]
    instruction: str
    hint: Hint | None
    first_label: int

    def asked(self, images: int, logits: Tensor | None) -> list[str]:
        """Return the instruction of each of several images.

        Args:
            images: how many they are.
            logits: the TSM's, `(images, outputs)`; only a hint looks at them.
        """
        if self.hint is None:
            return [self.instruction] * images
        own = logits[:, self.first_label : self.first_label + len(self.labels)]
        chosen = [row.nonzero().flatten() for row in own > 0] if self.multi_label else own.argmax(-1, keepdim=True)
        return [self.hint.added(self.instruction, [self.labels[label] for label in row.tolist()]) for row in chosen]

    def description(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        answers = [{"text": text, "labels": list(labels)} for text, labels in self.answers]
        return {**asdict(self), "answers": answers}

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Question:
        """Return what `description` was made of."""
        answers = [(answer["text"], tuple(answer["labels"])) for answer in description["answers"]]
        hint = Hint(**description["hint"]) if description["hint"] else None
        return cls(**{**description, "answers": answers, "hint": hint})


def asked_of_each(questions: Sequence[Question], sets: Sequence[range], logits: Tensor | None) -> list[str]:
    """Return the instruction of every image of a split.

    Args:
        questions: one a data set.
        sets: the rows of each data set.
        logits: the TSM's, `(N, outputs)`, if there is a TSM with a head.
    """
    asked = []
    for question, rows in zip(questions, sets, strict=True):
        asked += question.asked(len(rows), None if logits is None else logits[rows.start : rows.stop])
    return asked


def asked_in(questions: Sequence[Question], task: TaskData, split: str, logits: Tensor | None) -> list[str]:
    """Return the instruction of every row of a split of a task: the row's own, or that of its data set."""
    if task.open_ended:
        return list(task.splits[split]["instruction"])
    return asked_of_each(questions, row_ranges(task, split), logits)


def require_plain_texts(prompter: Prompter, task: TaskData, split: str, asked: Sequence[str]) -> None:
    """Check that nothing that is asked or answered holds the placeholder of an image; `asked` is one text a row.

    Raises:
        UsageError: the template of an instruction, or a label, does.
        VitaskError: a row of an open-ended task does; it is named.
    """
    kind = VitaskError if task.open_ended else UsageError
    for place, text in _texts(task, split, asked):
        if word := prompter.image_word(text):
            raise kind(f"{place}: {shown_image_word(text, word)}")


def _texts(task: TaskData, split: str, asked: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what is asked and answered, each behind where it comes from."""
    if not task.open_ended:
        yield from (("data.instruction", text) for text in dict.fromkeys(asked))
        yield from ((f"{task.name}, label", answer.text) for answer in task.answers)
        return
    rows = task.splits[split]
    for name, instruction, answer in zip(rows["id"], asked, rows["answer"], strict=True):
        yield f"{task.name}, {split}, row '{name}': instruction", instruction
        yield f"{task.name}, {split}, row '{name}': response", task.answers[answer].text


def build_questions(config: Config, task: TaskData) -> list[Question]:
    """Return what is asked on each data set of a task."""
    return [
        Question(
            name=member.name,
            labels=list(member.labels),
            multi_label=member.multi_label,
            answers=[
                (answer.text, answer.labels) for answer in member.answers[: member.candidates] if not member.open_ended
            ],
            instruction=instruction,
            hint=hint,
            first_label=own.start,
        )
        for member, instruction, hint, own in zip(
            members_of(task),
            build_instructions(config.data, task),
            build_hints(config.data),
            label_ranges(task),
            strict=True,
        )
    ]
