"""The linear head's task and data on a tiny VLM: its loss by hand, and the loop's promises."""

from __future__ import annotations

import pytest
import torch

from vitask.data import mix
from vitask.training.head import HeadTask, HeadTrainingData
from vitask.training.tsm_task import Head, joint_heads
from vitask.vlm.classifier import VLMClassifier
from vitask.vlm.prompts import PromptTable

from ..vlm.tiny import make_vlm, tiny_prompter
from .test_vitask_task import sgd
from .tiny_task import ANSWERS, make_toy_task
from .toy import Interrupted, log_lines, train


def make_data(task=None) -> HeadTrainingData:
    task = task or make_toy_task()
    return HeadTrainingData(task, PromptTable(task.splits["train"]["image"], tiny_prompter(), "Which?"))


def make_task(heads=None, labels: int = 3) -> HeadTask:
    torch.manual_seed(0)
    return HeadTask(VLMClassifier(make_vlm(None), labels), heads or [Head(range(3), multi_label=False)])


def collate(data: HeadTrainingData, indices):
    return data.collate([data[index] for index in indices])


def test_the_loss_is_the_cross_entropy_of_the_true_labels():
    task, data, indices = make_task(), make_data(), [0, 4, 5, 8]
    batch = collate(data, indices)
    out = task(batch, task.counts(batch), 0.0)
    expected = torch.nn.functional.cross_entropy(task.model(batch), torch.tensor([ANSWERS[i] for i in indices]))
    assert out["loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert batch["id"].tolist() == indices


def test_several_labels_take_the_binary_cross_entropy_of_each():
    task, batch = make_task([Head(range(3), multi_label=True)]), collate(make_data(), [0, 1, 2])
    batch["targets"] = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    out = task(batch, task.counts(batch), 0.0)
    p = task.model(batch).sigmoid()
    expected = -(batch["targets"] * p.log() + (1 - batch["targets"]) * (1 - p).log()).mean()
    assert out["loss"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_each_data_set_of_a_mixture_sees_its_own_columns():
    from dataclasses import replace

    one = make_toy_task()
    other = replace(one, name="other", labels=tuple(f"other {label}" for label in one.labels))
    task = mix("both", [replace(one, name="one"), other])
    data = make_data(task)
    heads = joint_heads(task, data.targets, data.members, balanced=False)
    assert [list(head.labels) for head in heads] == [[0, 1, 2], [3, 4, 5]]
    model, batch = make_task(heads, labels=6), collate(data, [1, 15])
    out = model(batch, model.counts(batch), 0.0)
    logits = model.model(batch)
    rows = [logits[0, :3].log_softmax(0)[ANSWERS[1]], logits[1, 3:].log_softmax(0)[ANSWERS[5]]]
    assert out["loss"].item() == pytest.approx(-sum(rows).item() / 2, abs=1e-6)


def test_portions_change_no_gradient(tmp_path, accelerator):
    def weights(micro):
        options = {"batch_size": 8, "epochs": 1, "clip": 0.0, "micro_batch_size": micro}
        return train(tmp_path / str(micro), accelerator, make_task(), make_data(), sgd, **options)

    start = {name: p for name, p in make_task().named_parameters() if p.requires_grad}
    whole, parts = weights(8), weights(3)
    for name, value in parts.items():
        moved = (whole[name] - start[name]).abs().max().item()
        assert moved > 0
        torch.testing.assert_close(value, whole[name], rtol=0, atol=2e-4 * moved + 1e-7, msg=name)


def test_killed_and_resumed_training_is_bit_identical(tmp_path, accelerator):
    def run(folder, stop_at=None):
        steps = []

        def after_step():
            steps.append(1)
            if len(steps) == stop_at:
                raise Interrupted

        options = {"after_step": after_step, "save_every": 2, "micro_batch_size": 2}
        return train(tmp_path / folder, accelerator, make_task(), make_data(), **options)

    expected = run("whole")
    with pytest.raises(Interrupted):
        run("resumed", stop_at=5)
    resumed = run("resumed")
    assert any(name.startswith("model.classifier.") for name in resumed)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert log_lines(tmp_path / "resumed") == log_lines(tmp_path / "whole")
