"""Random images, prompts, labels and exemplars, and the package's own batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from vitask.bench.sizes import HEAD, LABELS, TAG, Size
from vitask.data import BatchNegatives, TaskData, make_task
from vitask.losses import IGNORE_INDEX
from vitask.training.candidates import Candidates
from vitask.training.vitask_data import VITaskTrainingData
from vitask.vlm.families import InternVL
from vitask.vlm.image_cache import ImageFeatures
from vitask.vlm.inputs import Placement, make_branch, stack_images
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.prompts import Prompt, PromptTable


class RandomPrompter:
    """What batches ask of a `Prompter`, without tokenizer and processor; an image is its number.

    Args:
        size: how many tokens.
        seed: of the tokens and pixels.
    """

    end_id, pad_id = 0, 1

    def __init__(self, size: Size, seed: int) -> None:
        self.family = InternVL()
        self.image_token_id = size.vocabulary - 1
        self.size, self.seed = size, seed
        generator = torch.Generator().manual_seed(seed)

        def text(count: int) -> tuple[int, ...]:
            return tuple(torch.randint(2, size.vocabulary - 1, (count,), generator=generator).tolist())

        self.text = {"head": text(HEAD), "body": text(size.instruction), "tag": text(TAG)}
        openings = text(LABELS)  # two labels each begin alike, as the labels of a data set do
        self.responses = [(openings[i // 2], *text(length - 2), self.end_id) for i, length in enumerate(size.lengths)]

    def prompt(self, image: int, instruction: str = "") -> Prompt:
        """Return the prompt of an image."""
        generator = torch.Generator().manual_seed(self.seed + 1000 * (image + 1))
        head = (*self.text["head"], *[self.image_token_id] * self.size.image_tokens)
        return Prompt(
            head=head,
            body=self.text["body"],
            tag=self.text["tag"],
            positions=torch.arange(len(head)).unsqueeze(0),
            images={"pixel_values": torch.randn(1, 3, self.size.pixels, self.size.pixels, generator=generator)},
            image_tokens=self.size.image_tokens,
        )


@dataclass(frozen=True)
class Exemplars:
    """Features `(N, 1, D)` and logits `(N, labels)` of a TSM that never saw the images."""

    features: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Material:
    """One batch, the first images of a task's training split.

    Attributes:
        task: the labels, and the label of every image.
        batch_size: images.
        prompts: by image.
        exemplars: by image.
        seed: of the negatives.
        device: where batches go.
    """

    task: TaskData
    batch_size: int
    prompts: PromptTable
    exemplars: Exemplars
    seed: int
    device: torch.device

    @property
    def prompter(self) -> RandomPrompter:
        """Which made the prompts."""
        return self.prompts.prompter

    def members(self) -> list[Prompt]:
        """Return the prompts of the batch."""
        return [self.prompts[i] for i in range(self.batch_size)]

    def responses(self) -> list[Sequence[int]]:
        """Return the responses of the batch."""
        return [self.prompter.responses[answer] for answer in self.task.splits["train"]["answer"][: self.batch_size]]

    def to_device(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a batch to where it is computed."""
        return send_to_device(batch, self.device)


def make_material(size: Size, batch_size: int, seed: int, device: torch.device) -> Material:
    """Draw a batch; in one of several images, at least two labels occur."""
    generator = torch.Generator().manual_seed(seed)
    answers = torch.randint(LABELS, (batch_size,), generator=generator)
    answers[-1] = (answers[0] + 1) % LABELS
    task = make_random_task(answers.tolist())
    images = len(task.splits["train"])
    exemplars = Exemplars(
        torch.randn(images, 1, size.exemplar_dim, generator=generator), torch.randn(images, LABELS, generator=generator)
    )
    prompts = PromptTable(range(images), RandomPrompter(size, seed), "")
    return Material(task, batch_size, prompts, exemplars, seed, device)


def make_random_task(answers: list[int]) -> TaskData:
    """Make a task whose training split begins with these answers; its images are never looked at."""
    import datasets

    targets = {"train": [*answers, *range(LABELS)], "val": [*range(LABELS)], "test": [*range(LABELS)]}
    features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()})
    splits = {
        name: datasets.Dataset.from_dict(
            {"id": [str(i) for i in range(len(rows))], "image": [None] * len(rows)}, features=features
        )
        for name, rows in targets.items()
    }
    labels = [f"label {i}" for i in range(LABELS)]
    rows = {name: [[answer] for answer in each] for name, each in targets.items()}
    return make_task("bench", "noise", labels, splits, rows, content="noise", origin="bench")


class Batches:
    """The one batch in every form, each built by the package's own training data.

    Args:
        material: what is in it.
        vlm: encodes the images once, for batches that need no vision tower.
    """

    def __init__(self, material: Material, vlm: ExemplarVLM) -> None:
        self.material = material
        images = material.to_device(stack_images(material.members(), material.prompter))
        features = vlm.encode_images(images["images"])
        features = features if features.is_meta else features.cpu()  # where the cache of a training run holds them
        self.features = ImageFeatures(features, torch.tensor([0, *images["image_tokens"]]).cumsum(0))

    def source(self, branches: Sequence[str], form: str, position: str, *, live: bool) -> VITaskTrainingData:
        """Return the training data whose first batch is the material."""
        material = self.material
        return VITaskTrainingData(
            material.task,
            material.prompts,
            material.prompter.responses,
            branches,
            packed=form == "packed",
            placement=Placement(position, 1),
            exemplars=material.exemplars.features,
            negatives=BatchNegatives(material.seed),
            candidates=Candidates(material.task, None, material.seed, material.exemplars.logits),
            image_features=None if live else self.features,
        )

    def items(self, source: VITaskTrainingData) -> list[Any]:
        """Return what `source.collate` takes."""
        (keys,) = source.keys(0, [range(self.material.batch_size)])
        return [source[key] for key in keys]

    def batch(self, branches: Sequence[str], form: str, position: str, *, live: bool) -> Mapping[str, Any]:
        """Return the batch on its device."""
        source = self.source(branches, form, position, live=live)
        return self.material.to_device(source.collate(self.items(source)))

    def stock(self) -> Mapping[str, Tensor]:
        """Return the batch as a trainer's collator gives it: whole sequences, the prompt's labels ignored."""
        material = self.material
        prompts, responses = material.members(), material.responses()
        branch = make_branch(prompts, responses, None, range(len(prompts)), material.prompter)
        labels = torch.full_like(branch["input_ids"], IGNORE_INDEX)
        for row, (start, response) in enumerate(zip(branch["answer_positions"][:, 0].tolist(), responses, strict=True)):
            labels[row, start + 1 : start + 1 + len(response)] = torch.tensor(response)
        return material.to_device(
            {
                "input_ids": branch["input_ids"],
                "attention_mask": branch["attention_mask"],
                "labels": labels,
                **stack_images(prompts, material.prompter)["images"],
            }
        )
