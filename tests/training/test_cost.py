"""What training cost: by hand, over interruptions, and without changing what is trained."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import nn

from vitask.training import cost
from vitask.training.cost import CostMeter, peak_memory
from vitask.training.flops import flop_counter
from vitask.training.loop import Loop
from vitask.training.recorder import Recorder

from .tiny_task import make_data, make_vitask
from .toy import LENGTHS, Interrupted, make_loop

CPU = torch.device("cpu")
EPOCHS = 2
STEP_FLOPS = 2 * max(LENGTHS) * (3 * 4 + 4 + 4)
"""Of a sample of the toy: the frozen layer forward, the other forward and the gradient of its weights."""


class Clock:
    """Stands for the clock; `now` is set by the test."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cost.time, "perf_counter", clock)
    return clock


def run(folder, accelerator, **options) -> Loop:
    folder.mkdir(exist_ok=True)
    loop = make_loop(folder, accelerator, **options)
    loop.run(Recorder(folder, accelerator, resume_from=loop.step))
    return loop


def test_the_figures_of_a_loop(tmp_path, accelerator):
    found = run(tmp_path, accelerator).cost.summary()
    assert found["flops"] == EPOCHS * len(LENGTHS) * STEP_FLOPS
    assert (found["trained_parameters"], found["total_parameters"]) == (4 + 1, 4 + 1 + 12 + 4)
    assert found["samples_per_second"] == pytest.approx(EPOCHS * len(LENGTHS) / found["seconds"], rel=0.5)
    assert found["peak_memory_bytes"] > 1 << 20


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_micro_batches_cost_what_the_whole_batch_does(tmp_path, accelerator, micro_batch_size):
    found = run(tmp_path, accelerator, micro_batch_size=micro_batch_size).cost.summary()
    assert found["flops"] == EPOCHS * len(LENGTHS) * STEP_FLOPS


@pytest.mark.parametrize("step", [1, 2, 4, 6])
def test_an_interrupted_run_cost_what_a_whole_one_does(tmp_path, accelerator, step):
    steps = []

    def after_step():
        steps.append(1)
        if len(steps) == step:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(tmp_path, accelerator, save_every=1, after_step=after_step)
    loop = run(tmp_path, accelerator, save_every=1)
    assert loop.cost.samples == EPOCHS * len(LENGTHS)
    assert loop.cost.summary()["flops"] == EPOCHS * len(LENGTHS) * STEP_FLOPS


def test_seconds_of_interrupted_runs_add_up(clock):
    first, second = CostMeter(nn.Linear(1, 1), CPU), CostMeter(nn.Linear(1, 1), CPU)
    first.start()
    with first.step(4, 8):
        clock.now += 10
    state = first.state_dict()
    clock.now += 100  # lost: nothing of it was saved
    second.load_state_dict(state)
    clock.now += 1000  # not yet at it
    second.start()
    with second.step(4, 8):
        clock.now += 6
    assert second.summary()["seconds"] == 16
    assert second.summary()["samples_per_second"] == 1


def test_a_meter_that_never_ran_says_nothing_was_spent():
    found = CostMeter(nn.Linear(2, 3), CPU).summary()
    assert (found["seconds"], found["flops"], found["samples_per_second"]) == (0, 0, None)
    assert found["total_parameters"] == found["trained_parameters"] == 9


def test_one_step_is_counted_and_no_other(monkeypatch):
    counted, counter = [], cost.StepFlops
    monkeypatch.setattr(cost, "StepFlops", lambda: counted.append(1) or counter())
    linear, meter = nn.Linear(5, 7), CostMeter(nn.Linear(5, 7), CPU)
    for _ in range(3):
        with meter.step(2, 4):
            linear(torch.ones(2, 5)).sum().backward()
    assert counted == [1]
    assert meter.summary()["flops"] == 12 * 2 * 5 * 7 * 2  # 12 samples, forward and the gradient of the weights


def test_the_peak_is_that_since_the_start_and_the_largest_of_all_parts():
    meter = CostMeter(nn.Linear(1, 1), CPU)
    meter.load_state_dict({"samples": 0, "flops_per_sample": None, "seconds": 0.0, "peak_memory_bytes": 1 << 50})
    meter.start()
    assert meter.summary()["peak_memory_bytes"] == 1 << 50


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a peak begin anew")
def test_what_was_held_before_the_start_does_not_count():
    meter = CostMeter(nn.Linear(1, 1), CPU)
    assert meter.summary()["peak_memory_bytes"] is None
    hold(300 << 20)
    before = peak_memory(CPU)
    meter.start()
    first = meter.summary()["peak_memory_bytes"]
    assert first < before - (200 << 20)
    hold(300 << 20)
    assert meter.summary()["peak_memory_bytes"] > first + (200 << 20)


def hold(size: int) -> None:
    """Have memory, every page of it, and give it back."""
    held = bytearray(size)
    held[::4096] = b"1" * len(held[::4096])


def test_memory_is_in_bytes():
    assert peak_memory(CPU) > 50 << 20, "python and torch alone are more"


def gradients(measure: AbstractContextManager) -> dict[str, torch.Tensor]:
    """Those of one step of the whole objective, the frozen tower included."""
    task = make_vitask().train()
    data = make_data(placement=task.vlm.placement)
    (keys,) = data.keys(0, [range(4)])
    batch = data.collate([data[key] for key in keys])
    totals = task.counts(batch)
    with measure:
        task(batch, totals, 0.5)["loss"].backward()
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


def test_counting_changes_no_bit_of_a_gradient():
    meter = CostMeter(nn.Linear(1, 1), CPU)
    plain, counted = gradients(nullcontext()), gradients(meter.step(4, 4))
    assert plain.keys() == counted.keys()
    assert all(torch.equal(plain[name], counted[name]) for name in plain)


def test_a_step_counts_what_torch_counts():
    meter, theirs = CostMeter(nn.Linear(1, 1), CPU), flop_counter()
    gradients(meter.step(4, 4))
    gradients(theirs)
    assert meter.flops_per_sample * 4 == theirs.get_total_flops() > 1e6
