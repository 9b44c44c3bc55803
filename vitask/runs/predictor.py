"""A finished run that answers about images of no data set: loaded once, asked as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from vitask.config.build import data_configs
from vitask.config.exemplars import build_tsm_exemplars
from vitask.data import shrunk
from vitask.errors import UsageError, did_you_mean
from vitask.evaluation.closed_set import answer_images, generate_texts, label_probabilities
from vitask.evaluation.head import classify_images
from vitask.evaluation.scoring import encode
from vitask.runs.exemplars import open_exemplars
from vitask.runs.identity import exemplar_from_tsm, is_head, needs_exemplar, with_hint
from vitask.runs.train_tsm import probabilities
from vitask.runs.tuned import load_run_tsm, load_tuned, pick_device, require_same_tsm, tsm_folder
from vitask.runs.tuned_head import head_probabilities, load_classifier
from vitask.tsm import load_tsm
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.config.schema import Config, PredictConfig
    from vitask.runs.folder import RunFolder
    from vitask.tsm import ImageSet
    from vitask.vlm.classifier import VLMClassifier


MOST_TOKENS = 128
"""Of a free answer to a question whose right answer is not known."""


@dataclass(frozen=True)
class Answers:
    """What a run says of several images.

    Attributes:
        labels: the label texts of the data set that the images are like.
        probabilities: `(N, labels)`, over the labels, or of each label.
        chosen: the numbers of the labels that each image was given.
        texts: the same in words, as the run answers.
    """

    labels: Sequence[str]
    probabilities: Tensor
    chosen: Sequence[tuple[int, ...]]
    texts: Sequence[str]


class TSMPredictor:
    """A TSM run.

    Args:
        run: finished, with a head.
        config: its configuration.
        request: device, and images in one forward pass.
    """

    sees_exemplar = False

    def __init__(self, run: RunFolder, config: Config, request: PredictConfig) -> None:
        tsm, self.meta = load_tsm(run.tsm)
        self.source = build_tsm_exemplars(config, tsm, pick_device(request.device), request.batch_size)
        self.sizes = _sizes(config)

    @property
    def names(self) -> list[str]:
        """The data sets that it knows."""
        return [member["name"] for member in self.meta["members"]]

    def labels(self, number: int) -> list[str]:
        """Return the label texts of a data set."""
        member = self.meta["members"][number]
        return self.meta["labels"][member["start"] : member["stop"]]

    def answer(self, shown: ImageSet, number: int, *, exemplar: bool, batch_size: int) -> Answers:
        """Classify images that are like those of a data set; a TSM looks at neither of the options."""
        shown = _shrunk(shown, self.sizes[number])
        member = self.meta["members"][number]
        logits = self.source.logits(shown)[:, member["start"] : member["stop"]]
        found = probabilities(logits, member["multi_label"])
        return _of_probabilities(self.labels(number), found, member["multi_label"])


class VLMPredictor:
    """A VLM run, its TSM beside it if it takes one.

    Args:
        run: finished.
        config: its configuration, see `with_asked_exemplars`.
        request: device, and `exemplar`: off leaves out what only exemplars need, so that it need not be there.

    Raises:
        UsageError: the run takes the exemplars of other images.
        VitaskError: a file is missing or damaged.
    """

    def __init__(self, run: RunFolder, config: Config, request: PredictConfig) -> None:
        self.run, self.config, self.sizes = run, config, _sizes(config)
        device = pick_device(request.device)
        self.sees_exemplar = request.exemplar == "on" and needs_exemplar(config)
        if self.sees_exemplar and config.exemplar.content == "shuffled":
            raise UsageError(
                "exemplar=on: this run takes the exemplars of other images of a data set; write exemplar=off"
            )
        self.tsm = None
        if with_hint(config) or (self.sees_exemplar and exemplar_from_tsm(config)):
            loaded = load_run_tsm(tsm_folder(run, config), run.environment()["labels"])
            require_same_tsm(run, loaded)
            self.tsm = build_tsm_exemplars(config, loaded, device, request.batch_size)
        self.source = open_exemplars(run, config, request, self.tsm) if self.sees_exemplar else None
        self.tuned = load_tuned(run, config, device, exemplars=self.source)

    @property
    def names(self) -> list[str]:
        """The data sets that it knows."""
        return [member.name for member in self.tuned.members]

    def labels(self, number: int) -> list[str]:
        """Return the label texts of a data set."""
        return list(self.tuned.members[number].labels)

    @cached_property
    def head(self) -> VLMClassifier:
        """The VLM with its linear head, if it has one."""
        return load_classifier(self.run, self.tuned)

    def answer(self, shown: ImageSet, number: int, *, exemplar: bool, batch_size: int) -> Answers:
        """Ask about images that are like those of a data set.

        Args:
            shown: the images.
            number: of the data set.
            exemplar: show the exemplar of each; the predictor was opened with `exemplar=on`.
            batch_size: images at once.
        """
        shown = _shrunk(shown, self.sizes[number])
        tuned, question = self.tuned, self.tuned.members[number]
        asked = question.asked(len(shown.images), self.tsm.logits(shown) if self.tsm else None)
        prompts = PromptTable(shown.images, tuned.prompter, asked)
        if is_head(self.config):
            logits = classify_images(self.head, tuned.prompter, prompts, batch_size=batch_size)
            return _of_probabilities(question.labels, head_probabilities(question, logits), question.multi_label)
        batches = answer_images(
            tuned.vlm,
            tuned.prompter,
            prompts,
            tuned.responses(number),
            exemplars=self.source(shown) if exemplar else None,
            batch_size=batch_size,
            with_text=False,
        )
        scores = torch.cat([batch for batch, _ in batches])
        texts, sets = zip(*question.answers, strict=True)
        best = scores.argmax(-1).tolist()
        return Answers(
            question.labels,
            label_probabilities(scores, sets, len(question.labels)),
            [sets[answer] for answer in best],
            [texts[answer] for answer in best],
        )

    def ask(
        self, shown: ImageSet, instruction: str | Sequence[str], *, exemplar: bool, batch_size: int
    ) -> Iterator[str]:
        """Yield the answer to an instruction in free words for each image.

        Args:
            shown: the images.
            instruction: one for all, or one an image.
            exemplar: show the exemplar of each; the predictor was opened with `exemplar=on`.
            batch_size: images at once.
        """
        shown, tuned = _shrunk(shown, self.sizes[0]), self.tuned
        prompts = PromptTable(shown.images, tuned.prompter, instruction)
        exemplars = self.source(shown) if exemplar else None
        for start in range(0, len(prompts), batch_size):
            rows = range(start, min(start + batch_size, len(prompts)))
            members = [prompts[row] for row in rows]
            seen = None if exemplars is None else torch.stack([exemplars[row] for row in rows])
            shared = {**encode(tuned.vlm, tuned.prompter, members), "exemplars": seen}
            yield from generate_texts(tuned.vlm, tuned.prompter, members, shared, MOST_TOKENS)


def open_predictor(run: RunFolder, config: Config, request: PredictConfig) -> TSMPredictor | VLMPredictor:
    """Load a finished run to answer about single images; for the arguments see `VLMPredictor`."""
    return (TSMPredictor if config.stage.name == "tsm" else VLMPredictor)(run, config, request)


def chosen_set(names: Sequence[str], wanted: str | None) -> int:
    """Return which of a run's data sets is meant.

    Raises:
        UsageError: there are several and none was named, or there is none of that name.
    """
    if wanted is None and len(names) == 1:
        return 0
    if wanted not in names:
        known = ", ".join(names)
        if wanted is None:
            raise UsageError(
                f"this run knows several data sets; say what the images are like: set={names[0]} (of {known})"
            )
        raise UsageError(f"set={wanted}: no such data set.{did_you_mean(wanted, names)} This run knows {known}")
    return names.index(wanted)


def _sizes(config: Config) -> list[int | None]:
    """The length that the shorter side of an image has at most, in each data set of a run."""
    return [each.size for each in data_configs(config.data)]


def _shrunk(shown: ImageSet, size: int | None) -> ImageSet:
    """Images of one's own as those of the data set came to the models."""
    return replace(shown, images=[shrunk(image, size) for image in shown.images])


def _of_probabilities(labels: Sequence[str], found: Tensor, multi_label: bool) -> Answers:
    """Choose the likeliest label of each image, or all above one half."""
    chosen = [tuple(row.nonzero().flatten().tolist()) for row in found > 0.5]
    if not multi_label:
        chosen = [(label,) for label in found.argmax(-1).tolist()]
    return Answers(labels, found, chosen, ["; ".join(labels[label] for label in row) for row in chosen])
