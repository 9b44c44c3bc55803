"""Every run says what it cost."""

from __future__ import annotations

import json

import pytest

STAGES = ("tsm", "vanilla", "ep", "crt")
STEPS = {"tsm": 1, "vanilla": 3, "ep": 3, "crt": 3}
IMAGES = 24


@pytest.fixture(scope="module")
def summaries(pipeline) -> dict[str, dict]:
    return {stage: json.loads((pipeline.run(stage) / "summary.json").read_text()) for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_the_summary_holds_the_cost_of_training(stage, summaries):
    summary = summaries[stage]
    cost = summary["cost"]
    assert summary["steps"] == STEPS[stage]
    assert 0 < cost["seconds"] <= summary["seconds"]
    assert cost["samples_per_second"] == pytest.approx(IMAGES / cost["seconds"], rel=0.1)
    assert cost["peak_memory_bytes"] > 100 << 20
    assert cost["flops"] > 2 * IMAGES * cost["trained_parameters"] > 0


def test_parameters_are_those_that_train_and_all(summaries):
    costs = {stage: summary["cost"] for stage, summary in summaries.items()}
    for stage in STAGES[1:]:
        assert costs[stage]["trained_parameters"] == sum(count for _, count in summaries[stage]["trained"].values())
    adapter, connector = (summaries["ep"]["trained"][p][1] for p in ("LoRA on the language model", "connector"))
    assert costs["vanilla"]["total_parameters"] == 704_480 + adapter
    assert costs["ep"]["total_parameters"] == costs["crt"]["total_parameters"] == 704_480 + adapter + connector
    assert costs["tsm"]["trained_parameters"] == costs["tsm"]["total_parameters"]


def test_more_branches_cost_more(summaries):
    vanilla, ep, crt = (summaries[stage]["cost"]["flops"] for stage in STAGES[1:])
    assert vanilla < min(ep, crt)
    assert max(ep, crt) < 2 * vanilla, "packed: far from three times"
