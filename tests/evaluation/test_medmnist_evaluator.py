"""Accuracy and AUC are what MedMNIST's own evaluator says of the same scores, for every task of the collection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medmnist import INFO
from medmnist.evaluator import getACC, getAUC

from vitask.evaluation.metrics import label_metrics, predictions_of

SETS = [name for name in INFO if "3d" not in name]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_two_evaluators_agree(name, seed):
    rng, task, labels = np.random.default_rng(seed), INFO[name]["task"], len(INFO[name]["label"])
    multi_label = task.startswith("multi-label")
    if multi_label:
        truth = (rng.random((300, labels)) < 0.2).astype(np.uint8)
        scores = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + truth)))
    else:
        truth = (np.arange(300) % labels)[:, None].astype(np.uint8)
        logits = rng.normal(size=(300, labels)) + np.eye(labels)[truth[:, 0]]
        scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    targets = torch.tensor(truth).float() if multi_label else torch.tensor(truth[:, 0]).long()
    found = label_metrics(predictions_of(targets, torch.tensor(scores), multi_label))
    assert found["label_accuracy" if multi_label else "accuracy"] == pytest.approx(
        getACC(truth, scores, task), abs=1e-12
    )
    assert found["auc"] == pytest.approx(getAUC(truth, scores, task), abs=1e-12)
