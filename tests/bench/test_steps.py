"""What is timed computes what it should: the stock step as Trainer does, packed as plain, and a check that notices."""

from __future__ import annotations

import pytest
import torch
from transformers import Trainer, TrainingArguments

from vitask.bench import steps, training
from vitask.bench.material import Batches, make_material
from vitask.bench.measure import Setting
from vitask.bench.scoring import compare
from vitask.bench.sizes import SIZES, Models
from vitask.bench.steps import PACKED, PLAIN, STOCK, check_agreement, training_steps
from vitask.bench.training import measure_training
from vitask.errors import VitaskError
from vitask.training.objective import Objective
from vitask.training.vitask_task import VITask
from vitask.vlm import packed

from .conftest import CPU

SETTING = Setting(CPU, half=False, repeats=1, warmup=0)


def compute(tiny, key: str) -> dict[str, torch.Tensor]:
    return next(s for s in training_steps(tiny.models, tiny.batches) if s.key == key).prepare()()


def test_the_stock_loss_is_that_of_the_trainer(tiny, tmp_path):
    model, batch = tiny.models.adapted, tiny.batches.stock()
    trainer = Trainer(model=model, args=TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]))
    count = trainer._get_num_items_in_batch([batch], CPU)
    assert count == sum(map(len, tiny.batches.material.responses()))
    expected = trainer.compute_loss(model, dict(batch), num_items_in_batch=count)
    found = compute(tiny, STOCK)["loss"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(found, trainer.compute_loss(model, dict(batch)), rtol=1e-6, atol=0)
    torch.testing.assert_close(found, compute(tiny, PLAIN)["loss"], rtol=1e-5, atol=0)


def test_the_stock_step_runs_the_tower_without_gradients_to_it(tiny):
    tiny.models.zero_grad()
    compute(tiny, STOCK)["loss"].backward()
    trained = {name for name, p in tiny.models.adapted.named_parameters() if p.grad is not None}
    assert trained
    assert all(".lora_" in name and ".language_model." in name for name in trained)


def test_the_connector_learns_in_stage_1_alone(tiny):
    for stage, learns in (("1", True), ("2", False)):
        tiny.models.zero_grad()
        compute(tiny, f"{PACKED}, stage {stage}")["loss"].backward()
        gradients = [p.grad for p in tiny.models.connectors[stage].parameters()]
        assert all((gradient is not None) == learns for gradient in gradients)


@pytest.mark.parametrize(
    ("row", "stage", "terms"),
    [
        (f"{PACKED}, + CSA, 10 labels, stage 2", "2", ("vanilla", "ep", "rda", "crt", "csa")),
        ("vanilla + CSA + image ranking packed, 10 labels", "1", ("vanilla", "csa", "image_ranking")),
    ],
)
def test_closed_set_terms_are_those_of_the_plain_form(row, stage, terms, tiny):
    found = compute(tiny, row)
    task = VITask(tiny.models.vlm("before_assistant", stage), Objective({term: steps.WEIGHTS[term] for term in terms}))
    batch = tiny.batches.batch(task.objective.branches, "plain", "before_assistant", live=False)
    expected = task(batch, task.counts(batch), 1.0)
    assert set(found) == {"loss", *terms, *(["without_negative"] if "crt" in terms else [])}
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def causal(segments: torch.Tensor, ancestors: torch.Tensor) -> torch.Tensor:
    """A mask without the tree: every token sees all that stand before it."""
    length = segments.shape[1]
    return torch.ones(len(segments), 1, length, length, dtype=torch.bool).tril()


def test_a_wrong_mask_is_noticed_before_anything_is_timed(tiny, monkeypatch):
    monkeypatch.setattr(packed, "tree_mask", causal)
    monkeypatch.setattr(training, "interleaved", None)
    with pytest.raises(VitaskError, match=r"bench: '(ep|rda|crt|csa)' is .* in 'VITask"):
        measure_training(tiny.models, tiny.batches, SETTING)


def test_the_check_allows_rounding_and_nothing_more():
    check_agreement({"a": {"loss": 1.0, "ep": 2.0}, "b": {"loss": 3.0, "ep": 2.001}}, half=False)
    check_agreement({"a": {"ep": 2.0}, "x, after_image": {"ep": 3.0}}, half=False)
    check_agreement({"a": {"vanilla": 2.0}, "b": {"vanilla": 2.1}}, half=True)
    for value in (2.01, float("nan")):
        with pytest.raises(VitaskError, match="bench: 'vanilla' is 2 in 'a' but"):
            check_agreement({"a": {"vanilla": 2.0}, "b": {"vanilla": value}}, half=False)


def test_a_wrong_score_is_noticed():
    scores = torch.tensor([[-3.0, -50.0]])
    assert compare(scores, scores, half=False) == {"largest_score_difference": 0.0, "largest_difference": 0.0}
    with pytest.raises(VitaskError, match=r"bench: the trie.s log-likelihoods differ by 0\.1"):
        compare(scores, scores + torch.tensor([[0.0, 0.1]]), half=False)


def test_bfloat16_agrees_as_well():
    models = Models(SIZES["tiny"], CPU, torch.bfloat16)
    batches = Batches(make_material(SIZES["tiny"], 2, 0, CPU), models.vlm())
    records = measure_training(models, batches, Setting(CPU, half=True, repeats=1, warmup=0))
    assert len(records) == 16
