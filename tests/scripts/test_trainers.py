"""The examples run: the losses inside other people's trainers learn, and change LoRA and connector alone."""

from __future__ import annotations

import importlib
import math
import sys

import pytest
import torch

from vitask.losses import rda_loss, vanilla_loss
from vitask.vlm.load import load_pretrained

from .internvl2 import SCRIPTS

SAMPLES = 16


@pytest.fixture
def example(monkeypatch):
    """Imports an example as `python scripts/examples/x.py` would."""
    monkeypatch.syspath_prepend(str(SCRIPTS / "examples"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and "scripts/examples" in sys.modules[name].__file__:
            del sys.modules[name]


def only_lora_and_connector_moved(module: torch.nn.Module) -> bool:
    """B of LoRA starts at 0; what the checkpoint brought along is as it was."""
    moved = [p.abs().max() > 0 for name, p in module.named_parameters() if "lora_B" in name]
    base, _ = load_pretrained("tiny")
    own = {name.replace(".base_layer", ""): p for name, p in module.named_parameters() if "lora_" not in name}
    same = [torch.equal(p, next(q for name, q in own.items() if name.endswith(n))) for n, p in base.named_parameters()]
    trains = {
        name.split(".")[0] if "connector" in name else "lora"
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    return len(moved) == 14 and all(moved) and all(same) and "lora" in trains and len(trains) == 2


def test_trainer_of_transformers(example):
    trainer = example("transformers_trainer").main(SAMPLES, steps=8)
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert only_lora_and_connector_moved(trainer.model)


def test_the_loss_of_the_trainer_is_the_sum_of_its_terms(example):
    module = example("transformers_trainer")
    vlm, prompter = module.build()
    batch = module.Collator(vlm, prompter)(module.digits(4))
    trainer = object.__new__(module.VITaskTrainer)
    with torch.no_grad():
        logits = vlm.eval()({key: value for key, value in batch.items() if key not in ("labels", "has_negative")})
        labels, has_negative = batch["labels"], batch["has_negative"]
        loss = trainer.compute_loss(vlm, dict(batch)).item()
    parts = [vanilla_loss(logits[name], labels).item() for name in ("vanilla", "exemplar")]
    parts.append(rda_loss(logits["vanilla"], logits["exemplar"], labels).item())
    contrast = (logits["vanilla"] - logits["negative"]).log_softmax(-1)
    tokens = [
        -contrast[b, t, labels[b, t]].item() for b in range(4) for t in range(labels.shape[1]) if labels[b, t] >= 0
    ]
    assert has_negative.all()
    assert math.isclose(loss, sum(parts) + 0.1 * sum(tokens) / len(tokens), rel_tol=1e-5)


def test_lightning(example):
    pytest.importorskip("lightning", reason="lightning is not installed (vitask[examples])")
    module = example("lightning_module")
    torch.manual_seed(0)
    trained = module.main(SAMPLES, steps=4)
    assert trained.trainer.global_step == 4
    assert only_lora_and_connector_moved(trained.vlm)


def test_sft_trainer_of_trl(example):
    pytest.importorskip("trl", reason="trl is not installed (vitask[trl])")
    trainer = example("trl_sft").main(SAMPLES, steps=8)
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert only_lora_and_connector_moved(trainer.model)


@pytest.mark.parametrize(
    ("name", "settings"), [("transformers_trainer", "TrainingArguments"), ("trl_sft", "SFTConfig")]
)
def test_accumulation_changes_neither_loss_nor_gradient(example, name, settings, monkeypatch):
    pytest.importorskip("trl" if name == "trl_sft" else "transformers", reason="trl is not installed (vitask[trl])")
    module = example(name)
    make = getattr(module, settings)

    def first_step(batch: int, accumulate: int) -> list[float]:
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulate, "logging_steps": 1}
        monkeypatch.setattr(module, settings, lambda **given: make(**{**given, **sizes}))
        torch.manual_seed(0)
        log = module.main(batch * accumulate, steps=1).state.log_history[0]
        return [log["loss"], log["grad_norm"]]

    assert first_step(2, 4) == pytest.approx(first_step(8, 1), rel=1e-2), "other negatives, but no other scale"
