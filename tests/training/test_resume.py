"""A run that is killed anywhere and started again ends as if nothing had happened."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitask.errors import VitaskError
from vitask.training import checkpoint
from vitask.training.checkpoint import Checkpoints, trainable_state

from .toy import Interrupted, ToyTask, log_lines, train


class Best:
    """What a validation callback keeps between epochs."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = list(state["epochs"])

    def __call__(self, epoch: int) -> dict[str, float]:
        self.epochs.append(epoch)
        return {"validated": len(self.epochs), "noise": torch.rand(()).item()}


def run(folder, accelerator, *, seed=0, save_every=0, stop_at_step=None, stop_in_epoch=None):
    """Train with dropout, validation and logs; stop where asked. Another seed is another initialisation."""
    best, steps = Best(), []

    def after_step():
        steps.append(1)
        if len(steps) == stop_at_step:
            raise Interrupted

    def after_epoch(epoch):
        values = best(epoch)
        if epoch == stop_in_epoch:
            raise Interrupted
        return values

    options = {"after_epoch": after_epoch, "extra_state": best}
    task = ToyTask(seed=0, dropout=0.5)
    if seed:
        nn.init.normal_(task.linear.weight)
    changes = {"save_every": save_every, "micro_batch_size": 2, "after_step": after_step}
    return train(folder, accelerator, task, options=options, **changes), best.epochs


def assert_same(folder, accelerator, save_every, *, interrupted, **stop):
    expected, epochs = run(folder / "whole", accelerator, save_every=save_every)
    with pytest.raises(interrupted):
        run(folder / "resumed", accelerator, save_every=save_every, **stop)
    finish_and_compare(folder, accelerator, save_every, expected, epochs)


def finish_and_compare(folder, accelerator, save_every, expected, epochs):
    seed = 1 if Checkpoints(folder / "resumed" / "checkpoints").latest() else 0
    weights, resumed_epochs = run(folder / "resumed", accelerator, seed=seed, save_every=save_every)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert log_lines(folder / "resumed") == log_lines(folder / "whole")
    assert resumed_epochs == epochs == [1, 2]


@pytest.mark.parametrize("save_every", [0, 1, 2, 3])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_killed_after_any_step(tmp_path, accelerator, step, save_every):
    assert_same(tmp_path, accelerator, save_every, interrupted=Interrupted, stop_at_step=step)


@pytest.mark.parametrize("save_every", [0, 1, 2, 3])
@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_while_validating(tmp_path, accelerator, epoch, save_every):
    assert_same(tmp_path, accelerator, save_every, interrupted=Interrupted, stop_in_epoch=epoch)


@pytest.mark.parametrize("where", ["save_file", "save", "_flush"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_killed_while_a_checkpoint_is_written(tmp_path, accelerator, monkeypatch, where, nth):
    expected, epochs = run(tmp_path / "whole", accelerator, save_every=2)
    owner = checkpoint.torch if where == "save" else checkpoint
    real, calls = getattr(owner, where), []

    def fail(*args):
        calls.append(args)
        if len(calls) == nth:
            raise Interrupted
        return real(*args)

    monkeypatch.setattr(owner, where, fail)
    with pytest.raises(Interrupted):
        run(tmp_path / "resumed", accelerator, save_every=2)
    monkeypatch.undo()
    finish_and_compare(tmp_path, accelerator, 2, expected, epochs)


def test_a_finished_run_trains_no_further(tmp_path, accelerator):
    weights, _ = run(tmp_path, accelerator)
    lines = log_lines(tmp_path)
    again, epochs = run(tmp_path, accelerator, seed=1)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert log_lines(tmp_path) == lines
    assert epochs == [1, 2]


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.live = nn.BatchNorm1d(3)
        self.still = nn.BatchNorm1d(3).requires_grad_(False)
        self.tuned = nn.Linear(3, 3)
        self.tuned.bias.requires_grad = False


def test_checkpoint_holds_what_changes_and_nothing_else(tmp_path):
    names = {"live.weight", "live.bias", "live.running_mean", "live.running_var", "live.num_batches_tracked"}
    assert trainable_state(Mixed()).keys() == names | {"tuned.weight"}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    module = Mixed()
    checkpoints.save(3, trainable_state(module), {"step": 3})
    path = checkpoints.latest()
    assert sorted(file.name for file in path.iterdir()) == ["state.pt", "trainable.safetensors"]
    other = Mixed()
    nn.init.normal_(other.tuned.weight)
    assert checkpoints.load(path, other) == {"step": 3}
    assert all(torch.equal(value, trainable_state(module)[name]) for name, value in trainable_state(other).items())


def test_state_is_read_without_running_code(tmp_path, accelerator, monkeypatch):
    run(tmp_path, accelerator)
    seen, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: seen.append(kwargs) or load(*args, **kwargs))
    run(tmp_path, accelerator)
    assert [options["weights_only"] for options in seen] == [True]


def test_newest_complete_checkpoint_counts_and_older_ones_go(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None
    for step in (2, 10):
        checkpoints.save(step, {"w": torch.ones(1)}, {})
    (tmp_path / "checkpoints" / "step-00000011.tmp").mkdir()
    assert checkpoints.latest().name == "step-00000010"
    assert not (tmp_path / "checkpoints" / "step-00000002").exists()
    checkpoints.save(12, {"w": torch.ones(1)}, {})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000012"]
    checkpoints.clear()
    assert not (tmp_path / "checkpoints").exists()
    checkpoints.clear()


@pytest.mark.parametrize("file", ["trainable.safetensors", "state.pt"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_checkpoint_is_named(tmp_path, accelerator, file, damage):
    run(tmp_path, accelerator)
    path = Checkpoints(tmp_path / "checkpoints").latest() / file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        path.unlink()
    with pytest.raises(VitaskError, match=r"step-00000006: cannot resume .*; remove the folder to start over") as error:
        run(tmp_path, accelerator)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", [nn.Linear(4, 1), ToyTask(dtype=torch.float64).requires_grad_(True)])
def test_checkpoint_of_another_model_is_refused(tmp_path, module):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, trainable_state(ToyTask()), {})
    with pytest.raises(VitaskError, match="tensors differ"):
        checkpoints.load(checkpoints.latest(), module)
