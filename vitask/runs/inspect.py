"""What a data set is before anything is trained on it: counts, sizes, an example as tokens, warnings, pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.config.build import build_hints, build_instructions, build_task
from vitask.config.embedded import check_embedded
from vitask.config.tuning import build_prompter
from vitask.errors import VitaskError
from vitask.runs.identity import data_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.vlm.prompts import Prompter

FEW, LONG_TAIL = 10, 20
MOST_INSTRUCTIONS = 20
SHEET = "contact-sheet.png"


@dataclass(frozen=True)
class Inspection:
    """What is said about one data set.

    Attributes:
        name: its short name.
        kind: for example `"multi-class, 7 labels"`.
        fingerprint: of the task.
        splits: number of images by split.
        counted: what the rows of `counts` are: labels, or the instructions of an open-ended task.
        counts: number of images by label text and split; with several labels an image counts for each of them. Of an
            open-ended task the number of rows by instruction, the commonest first.
        sizes: the commonest image sizes with their numbers, as one line; empty when the source does not know them.
        instruction: what the model is asked.
        response: what it is to answer for `sample`.
        sample: the id of the example.
        tokens: the example as the VLM reads it, each token with its id, and behind `=>` the response, which is trained;
            or why the VLM's processor could not be loaded.
        warnings: what to look at before trusting a result.
        sheet: the contact sheet.
    """

    name: str
    kind: str
    fingerprint: str
    splits: dict[str, int]
    counted: str
    counts: dict[str, dict[str, int]]
    sizes: str
    instruction: str
    response: str
    sample: str
    tokens: str
    warnings: list[str]
    sheet: Path


def inspect_data(config: Config) -> list[Inspection]:
    """Load the data of a configuration and look at it; a mixture gives one inspection a member.

    Returns:
        The inspections; contact sheets are written to `<out>/<data>/`.

    Raises:
        UsageError: the configuration does not fit the data.
        VitaskError: the data is missing or broken.

    Example:
        >>> inspect_data(compose_config("train", []))[0].splits
        {'train': 719, 'val': 539, 'test': 539}
    """
    check_embedded(config.data)
    task = build_task(config.data, config.seed, config.cache)
    folder = Path(config.out).expanduser() / data_name(config)
    instructions = [
        hint.added(text, ["{prediction}"]) if hint else text
        for text, hint in zip(build_instructions(config.data, task), build_hints(config.data), strict=True)
    ]
    prompter = _prompter(config)
    members = task.members or (task,)
    return [
        _inspect(member, instruction, prompter, folder / (f"{member.name}-{SHEET}" if task.members else SHEET))
        for member, instruction in zip(members, instructions, strict=True)
    ]


def _prompter(config: Config) -> Prompter | str:
    """The VLM's prompter, or why there is none."""
    try:
        return build_prompter(config.vlm)
    except VitaskError as error:
        return f"not shown; {error}"


def _inspect(task: TaskData, instruction: str, prompter: Prompter | str, sheet: Path) -> Inspection:
    from vitask.data.contact_sheet import write_contact_sheet

    write_contact_sheet(task, sheet)
    counts = _counts(task)
    first = next(rows for rows in task.splits.values() if len(rows))[0]
    response = task.answers[first["answer"]].text
    instruction = first["instruction"] if task.open_ended else instruction
    return Inspection(
        name=task.name,
        kind=_kind(task),
        fingerprint=task.fingerprint,
        splits={split: len(rows) for split, rows in task.splits.items()},
        counted="instruction" if task.open_ended else "label",
        counts=counts,
        sizes=_sizes(task),
        instruction=instruction,
        response=response,
        sample=first["id"],
        tokens=prompter if isinstance(prompter, str) else shown_tokens(prompter, first["image"], instruction, response),
        warnings=list(_warnings(task, counts)),
        sheet=sheet,
    )


def shown_tokens(prompter: Prompter, image: Image, instruction: str, response: str) -> str:
    """Write a prompt and its response as tokens with their ids; those of the image are counted.

    Example:
        >>> shown_tokens(prompter, image, "Which?", "zero")
        '<|im_start|>[2] user[269] \\n[202] <img>[4] <IMG_CONTEXT>[6] x 16 </img>[5] ... => zero[330] <|im_end|>[3]'
    """
    prompt = prompter.prompt(image, instruction)
    asked = tokens_with_ids(prompter, (*prompt.head, *prompt.body, *prompt.tag))
    return f"{asked} => {tokens_with_ids(prompter, prompter.response(response))}"


def tokens_with_ids(prompter: Prompter, ids: Sequence[int]) -> str:
    """Write tokens with their ids, as text of one line; those of an image are counted."""
    words = []
    for token, run in groupby(ids):
        word = f"{repr(prompter.tokenizer.decode([token]))[1:-1].replace(' ', '␣')}[{token}]"
        times = len(list(run))
        words += [f"{word} x {times}"] if token == prompter.image_token_id else [word] * times
    return " ".join(words)


def _kind(task: TaskData) -> str:
    if task.open_ended:
        asked = {text for rows in task.splits.values() for text in rows["instruction"]}
        pictures = {name for rows in task.splits.values() for name in rows["picture"]}
        return f"open-ended, {len(pictures)} images, {len(asked)} instructions, {len(task.answers)} responses"
    single = "binary" if len(task.labels) == 2 else "multi-class"
    kind = "multi-label" if task.multi_label else "ordinal" if task.ordinal else single
    sets = f", {len(task.answers)} label sets" if task.multi_label else ""
    return f"{kind}, {len(task.labels)} labels{sets}"


def _counts(task: TaskData) -> dict[str, dict[str, int]]:
    if task.open_ended:
        asked = {split: Counter(rows["instruction"]) for split, rows in task.splits.items()}
        commonest = [text for text, _ in sum(asked.values(), Counter()).most_common(MOST_INSTRUCTIONS)]
        return {text: {split: numbers[text] for split, numbers in asked.items()} for text in commonest}
    found = {split: Counter(rows["answer"][:]) for split, rows in task.splits.items()}
    counts = {
        text: {
            split: sum(n for answer, n in numbers.items() if label in task.answers[answer].labels)
            for split, numbers in found.items()
        }
        for label, text in enumerate(task.labels)
    }
    for i, answer in enumerate(task.answers):
        if not answer.labels:
            counts[f"({answer.text})"] = {split: numbers[i] for split, numbers in found.items()}
    return counts


def _sizes(task: TaskData) -> str:
    if task.audit is None:
        return ""
    sizes = list(task.audit.sizes.items())
    shown = ", ".join(f"{width} x {height} ({count})" for (width, height), count in sizes[:3])
    if len(sizes) <= 3:
        return shown
    widths, heights = zip(*task.audit.sizes, strict=True)
    return f"{shown}, and {len(sizes) - 3} more from {min(widths)} x {min(heights)} to {max(widths)} x {max(heights)}"


def _warnings(task: TaskData, counts: dict[str, dict[str, int]]) -> Iterator[str]:
    """Say what a user should look at; the notes first, as they stand beside every result too."""
    yield from (f"{title}: {text}" for title, text in task.notes.items())
    if task.audit:
        for split, count in task.audit.within.items():
            yield f"{count} of {len(task.splits[split])} {split} images occur in {split} before"
        if task.audit.contradictions:
            yield f"{task.audit.contradictions} images occur with different labels"
    if task.open_ended:
        return
    train = {text: count["train"] for text, count in counts.items()}
    if few := [text for text, count in train.items() if 0 < count < FEW]:
        yield f"fewer than {FEW} training images of {_listed(few)}"
    smallest = min((count for count in train.values() if count), default=0)
    if smallest and max(train.values()) > LONG_TAIL * smallest:
        yield f"the largest class has {max(train.values()) / smallest:.0f} times the images of the smallest"


def _listed(texts: Sequence[str], most: int = 5) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
