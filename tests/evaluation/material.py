"""Predictions to be scored: ordinary ones, and those that figures break at."""

from __future__ import annotations

import numpy as np
import torch

from vitask.evaluation.metrics import Predictions, predictions_of

RANDOM = [(seed, multi_label) for seed in range(3) for multi_label in (False, True)]


def random_targets(seed: int, multi_label: bool, samples: int = 40, labels: int = 4) -> tuple[torch.Tensor, ...]:
    """Targets, and probabilities of which many are equal."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, labels, generator=generator, dtype=torch.float64)
    if multi_label:
        targets = (torch.rand(samples, labels, generator=generator) < 0.4).float()
        return targets, (logits + targets).sigmoid().mul(20).round().div(20)
    targets = torch.randint(0, labels, (samples,), generator=generator)
    return targets, (logits + 2 * torch.eye(labels)[targets]).mul(2).round().div(2).softmax(-1)


def random_predictions(seed: int, multi_label: bool, samples: int = 40, labels: int = 4) -> Predictions:
    return predictions_of(*random_targets(seed, multi_label, samples, labels), multi_label)


def nasty() -> dict[str, Predictions]:
    """Absent classes, one class, one sample, ties, certainty, no label at all and every label."""
    classes = {
        "a class is absent": ([0, 1, 1, 0], [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.4, 0.4, 0.2]]),
        "one class, all right": ([2, 2], [[0, 0.1, 0.9], [0, 0, 1]]),
        "one class, all wrong": ([2, 2], [[0.9, 0.1, 0], [1, 0, 0]]),
        "one sample, right": ([1], [[0.25, 0.75]]),
        "one sample, wrong": ([0], [[0.25, 0.75]]),
        "all the same": ([0, 1, 2, 2], [[1 / 3] * 3] * 4),
        "certain": ([0, 1, 1], [[1, 0], [0, 1], [1, 0]]),
    }
    sets = {
        "no label anywhere": ([[0, 0], [0, 0]], [[0.2, 0.7], [0.1, 0.4]]),
        "every label everywhere": ([[1, 1], [1, 1]], [[0.2, 0.7], [0.1, 0.9]]),
        "a label is absent": ([[1, 0, 0], [1, 1, 0], [0, 0, 0]], [[0.9, 0.5, 0.1], [0.4, 0.6, 0.0], [0.3, 0.5, 1.0]]),
        "one set": ([[0, 1]], [[0.5, 0.5]]),
        "at the threshold": ([[0, 1], [1, 0]], [[0.5, 0.5], [0.5, 0.5]]),
    }
    made = {name: predictions_of(torch.tensor(t), torch.tensor(p).double(), False) for name, (t, p) in classes.items()}
    made |= {
        name: predictions_of(torch.tensor(t).float(), torch.tensor(p).double(), True) for name, (t, p) in sets.items()
    }
    truth = np.eye(3, dtype=bool)[[0, 1, 2]]
    said = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=bool)
    return {**made, "no answers": Predictions(truth, said, False, np.full((3, 3), 1 / 3))}
