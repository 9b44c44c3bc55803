"""The linear head of a finished head run, and what it says of images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from vitask.runs.train_tsm import probabilities
from vitask.vlm.classifier import VLMClassifier
from vitask.vlm.saving import load_head

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.runs.folder import RunFolder
    from vitask.runs.questions import Question
    from vitask.runs.tuned import TunedVLM


def load_classifier(run: RunFolder, tuned: TunedVLM) -> VLMClassifier:
    """Put the head of a run on its VLM.

    Raises:
        VitaskError: the head is missing or damaged, or does not fit the VLM and its labels.
    """
    labels = max(question.first_label + len(question.labels) for question in tuned.members)
    model = VLMClassifier(tuned.vlm, labels)
    load_head(model.classifier, run.model)
    return model.to(next(tuned.vlm.parameters()).device)


def head_probabilities(question: Question, batches: Iterable[Tensor]) -> Tensor:
    """Return the probabilities `(N, labels)` of the labels of one data set: over them, or of each.

    Args:
        question: what is asked on it.
        batches: the head's logits `(B, outputs)`.
    """
    logits = torch.cat(list(batches))[:, question.first_label : question.first_label + len(question.labels)]
    return probabilities(logits, question.multi_label)
