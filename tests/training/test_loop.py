"""The loop on a toy: portions, clipping, precision, logs, broken losses."""

from __future__ import annotations

import math
import signal
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from vitask.config.accelerator import build_accelerator
from vitask.errors import VitaskError
from vitask.interruption import Stopped
from vitask.training.checkpoint import Checkpoints
from vitask.training.loop import Loop, NonFiniteLoss
from vitask.training.sampling import random_state, restore_random_state

from .toy import LENGTHS, ToyData, ToyTask, decaying, log_lines, make_loop, settings, train


def sgd(task):
    return torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.1)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_portions_change_neither_weights_nor_logged_losses(tmp_path, accelerator, reduction):
    runs = {
        micro: train(
            tmp_path / str(micro), accelerator, ToyTask(reduction=reduction), batch_size=8, micro_batch_size=micro
        )
        for micro in (1, 2, 4, 8, None)
    }
    for micro, weights in runs.items():
        for name, value in weights.items():
            torch.testing.assert_close(value, runs[8][name], rtol=0, atol=1e-12)
        for row, expected in zip(log_lines(tmp_path / str(micro)), log_lines(tmp_path / "8"), strict=True):
            assert row == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_steps_are_plain_gradient_descent_on_the_whole_batch(tmp_path, accelerator, reduction):
    task, data = ToyTask(reduction=reduction), ToyData()
    options = {"batch_size": len(LENGTHS), "micro_batch_size": 3, "epochs": 2, "clip": 0.0}
    after = train(tmp_path, accelerator, task, data, sgd, **options)
    weight, bias = (p.detach().clone().requires_grad_() for p in ToyTask().linear.parameters())
    for row, rate in zip(log_lines(tmp_path), (0.1, 0.05), strict=True):
        rows = []
        for x, y, length in zip(data.x, data.y, LENGTHS, strict=True):
            hidden = ToyTask().frozen(x[:length]).tanh()
            rows.append(((hidden @ weight[0] + bias) - y[:length]).square())
        loss = torch.cat(rows).mean() if reduction == "token" else torch.stack([row.mean() for row in rows]).mean()
        gradients = torch.autograd.grad(loss, (weight, bias))
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        expected = {"loss": loss.item(), "error": loss.item(), "lr": rate, "grad_norm": norm}
        assert row == pytest.approx({"step": row["step"], "epoch": row["step"], **expected}, rel=1e-12)
        weight.data -= rate * gradients[0]
        bias.data -= rate * gradients[1]
    torch.testing.assert_close(after["linear.weight"], weight.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(after["linear.bias"], bias.detach(), rtol=0, atol=1e-12)


def test_clipping_shortens_the_step_and_logs_the_unclipped_norm(tmp_path, accelerator):
    before = ToyTask()
    after = train(tmp_path, accelerator, None, None, sgd, batch_size=10, epochs=1, clip=0.01)
    moved = torch.cat([(value - before.get_parameter(name)).flatten() for name, value in after.items()])
    assert moved.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert log_lines(tmp_path)[0]["grad_norm"] > 0.1


def test_schedule_starts_at_its_top_and_ends_with_the_last_step(tmp_path, accelerator):
    train(tmp_path, accelerator)
    assert [row["lr"] for row in log_lines(tmp_path)] == pytest.approx([0.05 * (1 - step / 6) for step in range(6)])


def test_progress_runs_from_zero_over_all_steps(tmp_path, accelerator):
    seen = []

    class Watching(ToyTask):
        def forward(self, batch, totals, progress):
            seen.append((progress, self.training))
            return super().forward(batch, totals, progress)

    train(tmp_path, accelerator, Watching(), micro_batch_size=4)
    assert seen == [(step / 6, True) for step in range(6)]


def test_every_epoch_sees_every_sample_once_in_another_order(tmp_path, accelerator):
    seen = []

    class Watching(ToyData):
        def collate(self, items):
            seen.extend(items)
            return super().collate(items)

    train(tmp_path, accelerator, None, Watching(), micro_batch_size=3)
    first, second = seen[: len(LENGTHS)], seen[len(LENGTHS) :]
    assert sorted(first) == sorted(second) == list(range(len(LENGTHS)))
    assert first != second


def test_same_seed_twice_is_identical_and_another_seed_is_not(tmp_path, accelerator):
    one, again, other = (
        train(tmp_path / name, accelerator, ToyTask(dropout=0.5), seed=seed)
        for name, seed in (("one", 0), ("again", 0), ("other", 1))
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert log_lines(tmp_path / "one") == log_lines(tmp_path / "again")
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_worker_processes_change_nothing(tmp_path, accelerator):
    alone = train(tmp_path / "alone", accelerator, ToyTask(dropout=0.5))
    helped = train(tmp_path / "helped", accelerator, ToyTask(dropout=0.5), workers=2)
    assert all(torch.equal(alone[name], helped[name]) for name in alone)


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (100, [6])])
def test_log_has_every_nth_step_and_the_last(tmp_path, accelerator, every, steps):
    train(tmp_path, accelerator, log_every=every)
    assert [row["step"] for row in log_lines(tmp_path)] == steps


def test_callback_runs_after_each_epoch(tmp_path, accelerator):
    calls = []
    options = {"after_epoch": lambda n: calls.append(n) or {"val/x": n}}
    train(tmp_path, accelerator, options=options, after_step=lambda: calls.append("step"))
    assert calls == ["step"] * 3 + [1] + ["step"] * 3 + [2]
    assert [row for row in log_lines(tmp_path) if "val/x" in row] == [
        {"step": 3, "epoch": 1, "val/x": 1},
        {"step": 6, "epoch": 2, "val/x": 2},
    ]


def test_a_callback_sees_the_weights_after_each_step(tmp_path, accelerator):
    task, seen = ToyTask(), []
    options = {"after_step": lambda step: seen.append((step, task.linear.weight.clone()))}
    after = train(tmp_path, accelerator, task, options=options)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert not torch.equal(seen[0][1], ToyTask().linear.weight)
    assert torch.equal(seen[-1][1], after["linear.weight"])


@pytest.mark.parametrize("epochs_before", [0, 1])
def test_broken_part_stops_with_its_name_and_leaves_weights_and_checkpoint(tmp_path, accelerator, epochs_before):
    if epochs_before:
        train(tmp_path, accelerator, epochs=1)
    task = ToyTask()
    loop = make_loop(tmp_path, accelerator, task, ToyData(broken=4), epochs=2, batch_size=10)
    loop.step, before = epochs_before, task.linear.weight.clone()
    kept = Checkpoints(tmp_path / "checkpoints").latest()
    words = f"step {epochs_before + 1}: loss part 'error' is nan; .*" + (str(kept) if kept else "no checkpoint yet")
    with pytest.raises(NonFiniteLoss, match=words):
        loop.run(SilentRecorder())
    assert torch.equal(task.linear.weight, before)
    assert Checkpoints(tmp_path / "checkpoints").latest() == kept
    if kept:
        assert Checkpoints(tmp_path / "checkpoints").resume(ToyTask()) is not None


def test_sum_that_overflows_is_named_when_every_part_is_finite(tmp_path, accelerator):
    class Overflowing(ToyTask):
        def forward(self, batch, totals, progress):
            parts = super().forward(batch, totals, progress)
            return {**parts, "loss": parts["loss"] * math.inf}

    with pytest.raises(NonFiniteLoss, match="'loss' is inf"):
        train(tmp_path, accelerator, Overflowing())


def test_broken_gradient_of_a_finite_loss_never_reaches_a_checkpoint(tmp_path, accelerator):
    class Cornered(ToyTask):
        def forward(self, batch, totals, progress):
            parts = super().forward(batch, totals, progress)
            corner = (self.linear.bias * 0).sum().sqrt() if progress > 0.1 else 0
            return {**parts, "loss": parts["loss"] + corner}

    with pytest.raises(NonFiniteLoss, match=r"step 2: .*'gradient norm' is nan"):
        train(tmp_path, accelerator, Cornered(), save_every=1)
    Checkpoints(tmp_path / "checkpoints").resume(kept := ToyTask())
    assert kept.linear.bias.isfinite().all()


def test_the_loop_alone_says_how_gradients_are_accumulated(tmp_path, fresh_accelerate, monkeypatch):
    """A variable of accelerate would divide every gradient."""
    launch, logger = SimpleNamespace(precision="no", device="cpu"), SimpleNamespace(tracker="none")
    plain = train(tmp_path / "plain", build_accelerator(launch, logger, tmp_path), optimizer=sgd)
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    asked = train(tmp_path / "asked", build_accelerator(launch, logger, tmp_path), optimizer=sgd)
    assert all(torch.equal(plain[name], asked[name]) for name in plain)


@pytest.mark.parametrize(("minutes", "saved"), [(0, [3, 6]), (1e-9, [1, 2, 3, 4, 5, 6]), (60, [3, 6])])
def test_a_checkpoint_comes_by_time_too(tmp_path, accelerator, monkeypatch, minutes, saved):
    steps, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, *args: steps.append(step) or save(self, step, *args))
    train(tmp_path, accelerator, save_minutes=minutes)
    assert steps == saved


def test_going_on_with_another_number_of_ranks_is_said(tmp_path, accelerator, monkeypatch, capsys):
    loop = make_loop(tmp_path, accelerator)
    make_loop(tmp_path, accelerator)
    assert "rank(s)" not in capsys.readouterr().out
    monkeypatch.setattr("vitask.training.loop.gather_object", lambda own: own * 2)
    loop.save()
    monkeypatch.undo()
    make_loop(tmp_path, accelerator)
    assert "warning: begun on 2 rank(s), goes on with 1: random numbers" in capsys.readouterr().out


def test_ranks_that_see_different_checkpoints_do_not_begin(tmp_path, accelerator, monkeypatch):
    """As on machines that do not share the folder: they would train on different batches, and then hang."""
    monkeypatch.setattr("vitask.training.loop.gather_object", lambda own: [*own, 5])
    with pytest.raises(VitaskError, match="of steps 0, 5; out= has to be a folder that all machines share"):
        make_loop(tmp_path, accelerator)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to get 2 GiB.\nMore."), r"get 2 GiB\. Try a smaller optim"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."), "Try fewer launch.workers"),
    ],
)
def test_memory_that_runs_out_is_no_traceback(tmp_path, accelerator, error, remedy):
    class Large(ToyTask):
        def forward(self, batch, totals, progress):
            if progress > 0.2:
                raise error
            return super().forward(batch, totals, progress)

    with pytest.raises(VitaskError, match=rf"after step 2: .*{remedy}.*; the same command goes on"):
        train(tmp_path, accelerator, Large())


def test_a_stop_asked_for_behind_the_last_step_is_heard_and_nothing_is_repeated(tmp_path, accelerator):
    """What comes next, another stage for example, must not begin."""
    whole = train(tmp_path / "whole", accelerator)

    def told(epoch: int) -> dict[str, float]:
        if epoch == 2:
            signal.raise_signal(signal.SIGTERM)
        return {}

    with pytest.raises(Stopped, match="stopped by SIGTERM after step 6 of 6; the same command goes on"):
        train(tmp_path / "told", accelerator, options={"after_epoch": told})
    steps = []
    resumed = train(tmp_path / "told", accelerator, after_step=lambda: steps.append(1))
    assert steps == []
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_random_states_are_those_of_this_ranks_gpu(monkeypatch):
    """As many as the machine has would not fit one with fewer."""
    put = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.tensor([7]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", put.append)
    state = random_state()
    assert state["cuda"].tolist() == [7]
    restore_random_state(state)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    restore_random_state(state)
    assert len(put) == 1


class SilentRecorder:
    def log(self, step, values):
        pass


def test_bf16_runs_the_layers_in_half_precision_and_keeps_weights_in_float32(tmp_path, fresh_accelerate):
    seen = set()
    task = ToyTask(dtype=torch.float32)
    task.linear.register_forward_hook(lambda module, args, out: seen.add((module.weight.dtype, out.dtype)))
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    data = ToyData(dtype=torch.float32)
    weights = train(tmp_path, accelerator, task, data, micro_batch_size=2, epochs=8)
    assert seen == {(torch.float32, torch.bfloat16)}
    assert all(value.dtype == torch.float32 for value in weights.values())
    rows = log_lines(tmp_path)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_settings_and_schedule_agree_on_the_number_of_steps(tmp_path, accelerator):
    asked = []
    task = ToyTask()

    def schedule(optimizer, steps):
        asked.append(steps)
        return decaying(optimizer, steps)

    loop = Loop(task, ToyData(), sgd(task), schedule, settings(epochs=3), accelerator, Checkpoints(tmp_path))
    assert asked == [9] == [loop.total_steps]
