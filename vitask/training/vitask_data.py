"""The VLM's training split: prompts, responses, exemplars and CRT negatives, as the branches of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vitask.data import BatchNegatives, DatasetNegatives
from vitask.losses import IGNORE_INDEX
from vitask.vlm.inputs import make_branch, stack_images

if TYPE_CHECKING:
    from vitask.data import TaskData
    from vitask.tsm.exemplar_file import ExemplarTable
    from vitask.vlm.inputs import Placement
    from vitask.vlm.prompts import Prompt, PromptTable

NO_NEGATIVE = -1


class VITaskTrainingData:
    """Items are (index, negative index); a batch holds only the branches that the objective needs.

    Args:
        task: the data.
        prompts: the training split's prompts.
        responses: token ids of every answer, by the index of the answer.
        branches: the branches to build, of `vanilla`, `exemplar`, `negative`.
        placement: where the exemplar goes, if there is an `exemplar` branch.
        exemplars: the TSM's features by index, likewise.
        negatives: how CRT's negative images are drawn, from the data set (paper) or the batch.
    """

    def __init__(
        self,
        task: TaskData,
        prompts: PromptTable,
        responses: Sequence[Sequence[int]],
        branches: Sequence[str],
        placement: Placement | None = None,
        exemplars: ExemplarTable | None = None,
        negatives: BatchNegatives | DatasetNegatives | None = None,
    ) -> None:
        self.answers = task.splits["train"]["answer"][:]
        self.prompts = prompts
        self.responses = responses
        self.branches = tuple(branches)
        self.placement = placement
        self.exemplars = exemplars
        self.negatives = negatives if "negative" in branches else None

    def __len__(self) -> int:
        """Number of training images."""
        return len(self.answers)

    def keys(self, epoch: int, steps: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
        """Return (index, negative index or -1) for every item; negatives from the batch are drawn over all ranks."""
        return [list(zip(step, self._negatives(epoch, step), strict=True)) for step in steps]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Return the prompts, the response and the exemplar of one item."""
        index, negative = key
        return {
            "index": index,
            "negative": negative,
            "prompts": {i: self.prompts[i] for i in key if i != NO_NEGATIVE},
            "response": self.responses[self.answers[index]],
            "exemplar": self.exemplars.features[index] if "exemplar" in self.branches else None,
        }

    def collate(self, items: Sequence[dict[str, Any]]) -> Mapping[str, Any]:
        """Build a micro-batch as `ExemplarVLM.forward` takes it, with `labels (B, R)` and `has_negative (B,)`."""
        prompts: dict[int, Prompt] = {}
        for item in items:
            prompts.update(item["prompts"])
        place = {index: number for number, index in enumerate(prompts)}
        own = [item["index"] for item in items]
        other = [item["index"] if item["negative"] == NO_NEGATIVE else item["negative"] for item in items]
        responses = [item["response"] for item in items]
        batch: dict[str, Any] = {
            "id": torch.tensor(own),
            "labels": pad_responses(responses),
            "has_negative": torch.tensor([item["negative"] != NO_NEGATIVE for item in items]),
            "branches": {},
            **stack_images(list(prompts.values())),
        }
        for name in self.branches:
            rows = other if name == "negative" else own
            placement = self.placement if name == "exemplar" else None
            batch["branches"][name] = make_branch(
                [prompts[i] for i in rows], responses, placement, [place[i] for i in rows], self.prompts.prompter
            )
        if "exemplar" in self.branches:
            batch["exemplars"] = torch.stack([item["exemplar"] for item in items])
        return batch

    def _negatives(self, epoch: int, step: Sequence[int]) -> Sequence[int]:
        if self.negatives is None:
            return [NO_NEGATIVE] * len(step)
        drawn = self.negatives.draw(epoch, step, [self.answers[i] for i in step], [0] * len(step))
        if isinstance(self.negatives, BatchNegatives):
            return [NO_NEGATIVE if row == NO_NEGATIVE else step[row] for row in drawn]
        return drawn


def pad_responses(responses: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return response tokens `(B, R)`, padded with `IGNORE_INDEX`."""
    rows = [torch.tensor(response) for response in responses]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE_INDEX)
