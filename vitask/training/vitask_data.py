"""The VLM's training split: prompts, responses, exemplars, CRT negatives and label sets, as batches of either form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vitask.data import NO_NEGATIVE, BatchNegatives, DatasetNegatives, InstructionNegatives, instruction_ids
from vitask.losses import IGNORE_INDEX
from vitask.vlm.inputs import label_branch, make_branch, stack_images
from vitask.vlm.packing import Continuation, pack

if TYPE_CHECKING:
    from vitask.data import TaskData
    from vitask.training.candidates import Candidates
    from vitask.vlm.image_cache import ImageFeatures
    from vitask.vlm.inputs import Placement
    from vitask.vlm.prompts import Prompt, Prompter, PromptTable


class VITaskTrainingData:
    """Items are (epoch, index, negative index); a batch holds only the branches that the objective needs.

    Args:
        task: the data.
        prompts: the training split's prompts.
        responses: token ids of every answer, by the index of the answer.
        branches: what to compute, of `vanilla`, `exemplar`, `negative` and `labels`.
        packed: build the packed form of a batch rather than the plain one.
        placement: where the exemplar goes, if there is an `exemplar` branch.
        exemplars: `(K, D)` of every image by index, likewise.
        negatives: how CRT's negative images are drawn, from the data set (paper) or the batch.
        candidates: the answers that each sample is scored against, for `labels`.
        image_features: what the vision tower gives for each image, if it was computed before.
    """

    def __init__(
        self,
        task: TaskData,
        prompts: PromptTable,
        responses: Sequence[Sequence[int]],
        branches: Sequence[str],
        *,
        packed: bool = True,
        placement: Placement | None = None,
        exemplars: Sequence[torch.Tensor] | None = None,
        negatives: BatchNegatives | DatasetNegatives | InstructionNegatives | None = None,
        candidates: Candidates | None = None,
        image_features: ImageFeatures | None = None,
    ) -> None:
        self.answers = task.splits["train"]["answer"][:]
        self.asked = instruction_ids(task, "train").tolist()
        self.prompts = prompts
        self.responses = responses
        self.branches = tuple(branches)
        self.packed = packed
        self.placement = placement
        self.exemplars = exemplars
        self.negatives = negatives if "negative" in branches else None
        self.candidates = candidates if "labels" in branches else None
        self.features = image_features

    def __len__(self) -> int:
        """Number of training images."""
        return len(self.answers)

    def keys(self, epoch: int, steps: Sequence[Sequence[int]]) -> list[list[tuple[int, int, int]]]:
        """Return (epoch, index, negative index or -1) for every item; negatives are drawn over all ranks."""
        return [
            [(epoch, index, negative) for index, negative in zip(step, self._negatives(epoch, step), strict=True)]
            for step in steps
        ]

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        """Return the prompts, the response, the exemplar and the candidates of one item."""
        epoch, index, negative = key
        answer = self.answers[index]
        return {
            "index": index,
            "negative": negative,
            "answer": answer,
            "prompts": {i: self.prompts[i] for i in (index, negative) if i != NO_NEGATIVE},
            "exemplar": self.exemplars[index] if "exemplar" in self.branches else None,
            "candidates": self.candidates.draw(epoch, index, answer) if self.candidates else None,
        }

    def collate(self, items: Sequence[dict[str, Any]]) -> Mapping[str, Any]:
        """Build a micro-batch as `ExemplarVLM.forward` takes it, with what `Objective` reads."""
        own = [item["index"] for item in items]
        others = {_shown(item): item["prompts"][_shown(item)] for item in items if _shown(item) not in own}
        indices = [*own, *others]
        prompts = [*(item["prompts"][item["index"]] for item in items), *others.values()]
        responses = [self.responses[item["answer"]] for item in items]
        batch: dict[str, Any] = {
            "id": torch.tensor(own),
            "labels": pad_responses(responses),
            "has_negative": torch.tensor([item["negative"] != NO_NEGATIVE for item in items]),
            **image_inputs(indices, prompts, self.prompts.prompter, self.features),
        }
        if "exemplar" in self.branches:
            batch["exemplars"] = torch.stack([item["exemplar"] for item in items])
        if self.candidates:
            chosen, truths = [item["candidates"] for item in items], [item["answer"] for item in items]
            batch["closed_set"] = self.candidates.describe(chosen, own, truths)
            batch["columns"] = self.candidates.columns(chosen, truths)
        rows = {"negative": [indices.index(_shown(item)) for item in items]}
        build = self._packed if self.packed else self._plain
        return {**batch, **build(items, prompts, responses, rows)}

    def _packed(
        self,
        items: Sequence[dict[str, Any]],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        rows: Mapping[str, Sequence[int]],
    ) -> dict[str, Any]:
        own = range(len(items))
        branches = {
            name: [
                Continuation(row, response, exemplar=name == "exemplar")
                for row, response in zip(rows.get(name, own), responses, strict=True)
            ]
            for name in self.branches
            if name != "labels"
        }
        sets = [[Continuation(row, response) for response in self._labels(items[row])] for row in own]
        label_sets = sets if self.candidates else ()
        return {"packed": pack(prompts, self.prompts.prompter, self.placement, branches, label_sets)}

    def _plain(
        self,
        items: Sequence[dict[str, Any]],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        rows: Mapping[str, Sequence[int]],
    ) -> dict[str, Any]:
        own, prompter = range(len(items)), self.prompts.prompter
        branches = {}
        for name in self.branches:
            images = rows.get(name, own)
            shown = [prompts[row] for row in images]
            if name == "labels":
                branches[name] = label_branch(shown, images, list(map(self._labels, items)), prompter)
            else:
                placement = self.placement if name == "exemplar" else None
                branches[name] = make_branch(shown, responses, placement, images, prompter)
        return {"branches": branches}

    def _labels(self, item: dict[str, Any]) -> list[Sequence[int]]:
        """The responses that an item is scored against."""
        return [self.responses[answer] for answer in item["candidates"] or ()]

    def _negatives(self, epoch: int, step: Sequence[int]) -> Sequence[int]:
        if self.negatives is None:
            return [NO_NEGATIVE] * len(step)
        answers, asked = ([column[i] for i in step] for column in (self.answers, self.asked))
        drawn = self.negatives.draw(epoch, step, answers, asked)
        if isinstance(self.negatives, BatchNegatives):
            return [NO_NEGATIVE if row == NO_NEGATIVE else step[row] for row in drawn]
        return drawn


def _shown(item: Mapping[str, Any]) -> int:
    """The image behind which CRT's negative branch reads the response: without a negative, the sample's own."""
    return item["index"] if item["negative"] == NO_NEGATIVE else item["negative"]


def image_inputs(
    indices: Sequence[int], prompts: Sequence[Prompt], prompter: Prompter, features: ImageFeatures | None
) -> dict[str, Any]:
    """Return the image inputs, or the image features that were computed before, of the images of a batch."""
    if features is None:
        return stack_images(prompts, prompter)
    return {"image_features": features.gather(indices), "image_tokens": [prompt.image_tokens for prompt in prompts]}


def pad_responses(responses: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return response tokens `(B, R)`, padded with `IGNORE_INDEX`."""
    rows = [torch.tensor(response) for response in responses]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE_INDEX)
