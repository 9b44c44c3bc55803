"""The whole task on a tiny VLM: which branches it computes, and the loop's promises on real losses."""

from __future__ import annotations

import math

import pytest
import torch

from vitask.evaluation.scoring import encode, score_responses
from vitask.training.vitask_data import NO_NEGATIVE

from .tiny_task import ANSWERS, WEIGHTS, make_data, make_vitask
from .toy import Interrupted, log_lines, train


def sgd(task):
    return torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.01)


def collate(task, keys, branches=("vanilla", "exemplar", "negative"), packed=True):
    data = make_data(branches, task.vlm.placement, packed=packed)
    return data.collate([data[(0, *key)] for key in keys])


@pytest.mark.parametrize(
    ("weights", "branches", "uses_exemplar"),
    [
        ({"vanilla": 1.0}, ["vanilla"], False),
        ({"vanilla": 1.0, "ep": 1.0}, ["vanilla", "exemplar"], True),
        ({"vanilla": 1.0, "crt": 1.0}, ["vanilla", "negative"], False),
        (WEIGHTS, ["vanilla", "exemplar", "negative"], True),
        ({"vanilla": 1.0, "ranking": 1.0, "csa": 1.0}, ["vanilla", "labels"], False),
        ({"image_ranking": 1.0}, ["labels"], False),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_a_branch_without_weight_is_never_computed(monkeypatch, weights, branches, uses_exemplar, packed):
    task, passes, mapped = make_vitask(weights), [], []
    decode = task.vlm.decode
    monkeypatch.setattr(task.vlm, "decode", lambda *args: passes.append(args) or decode(*args))
    task.vlm.connector.register_forward_hook(lambda *_: mapped.append(1))
    keys = [(0, 1), (1, 2)] if "negative" in branches else [(0, NO_NEGATIVE), (1, NO_NEGATIVE)]
    batch = collate(task, keys, branches, packed)
    assert set(task.objective.branches) == set(branches)
    out = task(batch, task.counts(batch), 0.0)
    assert len(passes) == (1 if packed else len(branches))
    assert bool(mapped) == uses_exemplar
    assert out.keys() - {"without_negative"} == {"loss", *weights}
    out["loss"].backward()
    connector = [p.grad for p in task.vlm.connector.parameters()]
    assert all((gradient is not None) == uses_exemplar for gradient in connector)


def test_exemplar_teacher_learns_from_rda_only_when_it_is_not_detached():
    for detach in (True, False):
        task = make_vitask({"rda": 1.0}, detach_teacher=detach)
        batch = collate(task, [(0, 1), (1, 2)])
        task(batch, task.counts(batch), 0.0)["loss"].backward()
        assert all((p.grad is None or not p.grad.any()) == detach for p in task.vlm.connector.parameters())


@pytest.mark.parametrize("limit", [None, 2])
def test_image_ranking_compares_the_likelihoods_that_scoring_gives(limit):
    """Each image of the batch scored against each answer, by the function that evaluation uses."""
    task, indices = make_vitask({"image_ranking": 1.0}), [0, 1, 2, 3]
    data = make_data(["labels"], limit=limit)
    batch = data.collate([data[(0, index, NO_NEGATIVE)] for index in indices])
    part = task(batch, task.counts(batch), 0.0)["image_ranking"].item()
    prompts = [data.prompts[index] for index in indices]
    images = encode(task.vlm, data.prompts.prompter, prompts)
    scores = score_responses(task.vlm, data.prompts.prompter, prompts, data.responses, images).double()
    kept = [data[(0, index, NO_NEGATIVE)]["candidates"] for index in indices]
    losses = []
    for own, answer in enumerate(ANSWERS[index] for index in indices):
        rivals = [i for i, index in enumerate(indices) if ANSWERS[index] != answer and answer in kept[i]]
        if rivals:
            losses.append(-scores[[own, *rivals], answer].log_softmax(0)[0].item())
    assert len(losses) == int(task.counts(batch)["image_ranking"]) > 0
    assert part == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_a_sample_without_negative_has_no_part_in_crt():
    task = make_vitask({"crt": 1.0})
    both = collate(task, [(0, 1), (2, NO_NEGATIVE)], ("vanilla", "negative"))
    alone = collate(task, [(0, 1)], ("vanilla", "negative"))
    outputs = [task(batch, task.counts(batch), 0.0) for batch in (both, alone)]
    torch.testing.assert_close(*(out["crt"] for out in outputs), rtol=1e-5, atol=1e-6)
    assert [out["without_negative"].item() for out in outputs] == [0.5, 0]
    nobody = collate(task, [(0, NO_NEGATIVE), (2, NO_NEGATIVE)], ("vanilla", "negative"))
    out = task(nobody, task.counts(nobody), 0.0)
    out["loss"].backward()
    assert out["crt"].item() == 0
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


@pytest.mark.parametrize(("reduction", "packed"), [("token", True), ("sequence", True), ("token", False)])
@pytest.mark.parametrize("negatives", ["dataset", "batch"])
def test_portions_change_no_gradient(tmp_path, accelerator, reduction, negatives, packed):
    terms = {**WEIGHTS, "ranking": 0.5, "csa": 1.0}

    def weights(micro):
        task = make_vitask(terms, reduction=reduction)
        data = make_data(task.objective.branches, task.vlm.placement, negatives, packed=packed)
        options = {"batch_size": 8, "epochs": 1, "clip": 0.0}
        return train(tmp_path / str(micro), accelerator, task, data, sgd, micro_batch_size=micro, **options)

    start = {name: p for name, p in make_vitask().named_parameters() if p.requires_grad}
    whole = weights(8)
    for micro in (4, 1):
        for name, value in weights(micro).items():
            moved = (whole[name] - start[name]).abs().max().item()
            assert moved > 0
            torch.testing.assert_close(value, whole[name], rtol=0, atol=2e-4 * moved + 1e-7, msg=name)


def test_killed_and_resumed_training_is_bit_identical(tmp_path, accelerator):
    def run(folder, stop_at=None, lora_seed_changed=False):
        task, steps = make_vitask(), []
        if lora_seed_changed:
            for p in task.parameters():
                p.data = p.data + 1.0 if p.requires_grad else p.data

        def after_step():
            steps.append(1)
            if len(steps) == stop_at:
                raise Interrupted

        data = make_data(placement=task.vlm.placement)
        options = {"after_step": after_step, "save_every": 2, "micro_batch_size": 2}
        return train(tmp_path / folder, accelerator, task, data, **options)

    expected = run("whole")
    with pytest.raises(Interrupted):
        run("resumed", stop_at=5)
    resumed = run("resumed", lora_seed_changed=True)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert log_lines(tmp_path / "resumed") == log_lines(tmp_path / "whole")
    assert all(math.isfinite(row["loss"]) for row in log_lines(tmp_path / "whole"))
