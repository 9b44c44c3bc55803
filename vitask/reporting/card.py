"""The model card of an exported run, in Markdown with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitask.reporting.choices import Choice, choice_of
from vitask.reporting.deviations import deviations, open_choices
from vitask.reporting.study import estimate, figure_of
from vitask.reporting.table import markdown
from vitask.reporting.tables import HEADLINE, WORDS, cell

MODES = {"off": "without exemplar", "on": "with exemplar"}
KINDS = {
    "adapter": ("peft", "adapter", "a LoRA adapter for peft"),
    "merged": ("transformers", "finetune", "a checkpoint with LoRA merged in"),
    "bundle": ("vitask", "adapter", "a bundle for vitask"),
}
"""Of each form the library that loads it, what it is to the base model, and its name in words."""
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
MOST_ASKED = 12
TEXT_MARKS = re.compile(r"[\\`*_\[\]<>~&$]|^[#+-]|^\d+(?=[.)])", re.MULTILINE)


@dataclass(frozen=True)
class Card:
    """What a model card is about.

    Attributes:
        title: of the model.
        kind: `adapter`, `merged` or `bundle`.
        run: the name of the run folder.
        base: the base model, by its name on the hub, or of its folder.
        base_on_hub: whether it is the former.
        data: name, `fingerprint`, `notes` and, if known, `counts` of images by split.
        sets: what `labels.json` holds.
        metrics: what each evaluation of the run on its own data found.
        config: the resolved settings.
        weights: of the loss terms.
        usage: code that loads and uses it, by a heading.
        notes: further sentences on use.
        checked: what the check of the export found, in a sentence.
        versions: of the libraries that trained it.
    """

    title: str
    kind: str
    run: str
    base: str
    base_on_hub: bool
    data: Mapping[str, Any]
    sets: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    weights: Mapping[str, float]
    usage: str
    notes: Sequence[str]
    checked: str
    versions: Mapping[str, str | None]

    @property
    def in_words(self) -> bool:
        """Whether the model answers in words and knows no labels."""
        return not any(each["labels"] for each in self.sets)

    def choice(self, labels: Mapping[str, Any]) -> Choice:
        """How it answers on one of its `sets`."""
        return choice_of(labels, self.config["stage"]["name"])

    @property
    def figures(self) -> Mapping[str, str]:
        """The columns of its results."""
        return WORDS if self.in_words else HEADLINE


def model_card(card: Card) -> str:
    """Write the card; every name and text of the run's is escaped.

    Example:
        >>> model_card(card).startswith("---")
        True
    """
    parts = [
        f"---\n{_front_matter(card)}\n---",
        f"# {escaped(card.title)}",
        *_summary(card),
        "## Use",
        fenced(card.usage, "python"),
        *card.notes,
        "## Instructions" if card.in_words else "## Labels and instruction",
        *(_asked(card) if card.in_words else _questions(card)),
        "## Data",
        *_data(card.data, "Questions" if card.in_words else "Images"),
        "## Results",
        *_results(card),
        "## Settings",
        _bullets(map(escaped, open_choices(card.config, card.weights))),
        "Trained with " + ", ".join(f"{name} {value}" for name, value in card.versions.items() if value) + ".",
        "## What differs from the paper",
        _bullets(map(escaped, deviations(card.config, card.weights))) or "Nothing that the paper states.",
        "## Intended use and limits",
        _bullets(_limits(card)),
        "## Licence",
        f"Not stated. What may be done with these weights follows from the licences of {escaped(card.base)} and of the "
        "data; whoever hands them on says so here and in the front matter (`license`, `license_name`).",
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    r"""Let a text stand for itself in Markdown, in one line.

    Example:
        >>> escaped("a_b <i>")
        'a\\_b \\<i\\>'
    """
    return TEXT_MARKS.sub(_mark, " ".join(text.split()))


def fenced(text: str, language: str = "") -> str:
    """Put a text into a code block that it cannot end.

    Example:
        >>> fenced("x = 1", "python")
        '```python\\nx = 1\\n```'
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _mark(found: re.Match[str]) -> str:
    text = found[0]
    return f"&#{ord(text[0])};{text[1:]}" if text[0].isdigit() else f"\\{text}"


def _front_matter(card: Card) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    library, relation, _ = KINDS[card.kind]
    task = "visual-question-answering" if card.in_words else "image-classification"
    name = str(card.data["name"])
    results = [
        EvalResult(
            task_type=task,
            task_name="answers in words" if card.in_words else "closed-set classification",
            dataset_type=re.sub(r"[^\w.-]+", "-", name).strip("-") or "data",
            dataset_name=name,
            dataset_split=metrics["split"],
            metric_type=key,
            metric_name=f"{title}, {MODES[metrics['mode']]}",
            metric_value=value,
        )
        for metrics in card.metrics
        for title, key in card.figures.items()
        if (value := figure_of(metrics, key)) is not None
    ]
    named = {"base_model": card.base, "base_model_relation": relation} if card.base_on_hub else {}
    return ModelCardData(
        license="other",
        license_name="not-stated",
        library_name=library,
        pipeline_tag="image-text-to-text",
        tags=["vitask", task, *(["lora"] if card.config["lora"]["tune"] == "adapter" else [])],
        model_name=card.title,
        eval_results=results or None,
        **named,
    ).to_yaml()


def _summary(card: Card) -> Iterator[str]:
    adapted = card.config["lora"]["tune"] == "adapter"
    form = KINDS[card.kind][2] if adapted or card.kind == "bundle" else "a checkpoint that was tuned as a whole"
    able = "give an image " + " or ".join(_filled(card.choice(each).able, each) for each in card.sets)
    if card.in_words:
        able = f"answer in words what it is asked about an image, on {escaped(card.sets[0]['name'])}"
    yield (
        f"A vision language model tuned to {able}: "
        f"{form}, from run `{card.run}` of [vitask](https://arxiv.org/abs/2410.06456) "
        f"(stage {escaped(card.config['stage']['name'])}). The base model is {escaped(card.base)}."
    )
    yield f"Before it was written it was {card.checked}."


def _questions(card: Card) -> Iterator[str]:
    for each in card.sets:
        if len(card.sets) > 1:
            yield f"### {escaped(each['name'])}"
        yield f"{_filled(card.choice(each).listed, each)}: {', '.join(map(escaped, each['labels']))}."
        yield "The instruction, word for word:"
        yield fenced(each["instruction"])


def _filled(words: str, labels: Mapping[str, Any]) -> str:
    """Fill in what the words of a `Choice` leave open."""
    numbers = {key: len(labels[key]) for key in ("labels", "answers")}
    return words.format(**numbers, name=escaped(labels["name"]))


def _asked(card: Card) -> Iterator[str]:
    """Yield the instructions that a model that answers in words knows, as far as they are known."""
    known = {name: None for metrics in card.metrics for name in metrics.get("by_instruction", ())}
    if own := card.sets[0]["instruction"]:
        known = {own: None}
    if not known:
        yield "As in the training data; the run was not evaluated, so they were not listed."
        return
    more = f" ({MOST_ASKED} of {len(known)})" if len(known) > MOST_ASKED else ""
    yield f"It was asked, word for word{more}:"
    yield fenced("\n".join(" ".join(name.split()) for name in list(known)[:MOST_ASKED]))


def _data(data: Mapping[str, Any], counted: str) -> Iterator[str]:
    yield f"{escaped(str(data['name']))}, fingerprint `{data['fingerprint']}`."
    if data.get("counts"):
        yield f"{counted}: " + ", ".join(f"{count} {split}" for split, count in data["counts"].items()) + "."
    if data.get("notes"):
        yield _bullets(f"{escaped(title)}: {escaped(text)}" for title, text in data["notes"].items())


def _results(card: Card) -> Iterator[str]:
    rows = {name: row for metrics in card.metrics for name, row in _rows(card, metrics)}
    if not rows:
        yield "Not evaluated before it was exported."
        return
    counted = "questions" if card.in_words else "images"
    yield markdown(["", counted, *card.figures], [[name, *row] for name, row in rows.items()])
    yield "In brackets the 95 % bootstrap interval over the images. One seed; another may give other figures."


def _rows(card: Card, metrics: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield rows of one evaluation: the model, each data set of several, and what stands beside the model."""
    way = f"{metrics['split']}, {MODES[metrics['mode']]}"
    named = {way: metrics, **{f"{way}: {escaped(name)}": each for name, each in metrics.get("sets", {}).items()}}
    guess = "commonest response" if card.in_words else "majority class"
    named |= {"TSM alone": metrics.get("tsm"), guess: metrics.get("majority")}
    for name, each in named.items():
        if each:
            figures = [cell(estimate([each], key)) for key in card.figures.values()]
            count = str(each.get("samples", metrics.get("samples", "")))
            yield name, [count, *(f"{figure.text} {figure.spread}".strip() for figure in figures)]


def _limits(card: Card) -> Iterator[str]:
    yield f"Made for research, on images like those of {escaped(str(card.data['name']))}."
    if card.in_words:
        yield "It always answers; nothing in an answer says whether it is right."
        yield "What it was not asked in tuning it may answer in the manner of what it was asked."
    else:
        yield from _label_limits(card)
    yield "Other cameras, places and groups of people than those of the data were not looked at."
    yield "It is no medical device, and was not examined for decisions about people."


def _label_limits(card: Card) -> Iterator[str]:
    """Yield what is said of answers and probabilities, by data sets where they are answered in several ways."""
    names: dict[Choice, list[str]] = {}
    for each in card.sets:
        names.setdefault(card.choice(each), []).append(escaped(each["name"]))
    for choice, those in names.items():
        where = f"{', '.join(those)}: " if len(names) > 1 else ""
        yield from (where + sentence for sentence in choice.limits)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
