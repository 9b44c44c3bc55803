"""A run that is killed anywhere and started again ends as if nothing had happened."""

from __future__ import annotations

import signal

import pytest
import torch
from torch import nn

from vitask.errors import VitaskError
from vitask.interruption import Stopped
from vitask.training import checkpoint
from vitask.training.checkpoint import Checkpoints, trainable_state

from .toy import Interrupted, ToyTask, log_lines, make_loop, train


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


def run(
    folder, accelerator, *, seed=0, save_every=0, stop_at_step=None, stop_in_epoch=None, signal_at_step=(None, None)
):
    """Train with dropout, validation and logs; stop where asked. Another seed is another initialisation."""
    best, steps = Best(), []

    def after_step():
        steps.append(1)
        if len(steps) == stop_at_step:
            raise Interrupted
        if len(steps) == signal_at_step[0]:
            signal.raise_signal(signal_at_step[1])

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


@pytest.mark.parametrize("where", ["save_file", "save", "flush"])
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
    assert sorted(file.name for file in path.iterdir()) == ["checksums.json", "state.pt", "trainable.safetensors"]
    other = Mixed()
    nn.init.normal_(other.tuned.weight)
    assert checkpoints.resume(other) == {"step": 3}
    assert all(torch.equal(value, trainable_state(module)[name]) for name, value in trainable_state(other).items())


def test_state_is_read_without_running_code(tmp_path, accelerator, monkeypatch):
    run(tmp_path, accelerator)
    seen, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: seen.append(kwargs) or load(*args, **kwargs))
    run(tmp_path, accelerator)
    assert [options["weights_only"] for options in seen] == [True]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_two_newest_complete_checkpoints_are_kept(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest() is None
    assert checkpoints.resume(nn.Linear(1, 1)) is None
    for step in (2, 10):
        checkpoints.save(step, {"w": torch.ones(1)}, {})
    (folder / "step-00000011.tmp").mkdir()
    assert checkpoints.latest().name == "step-00000010"
    checkpoints.save(12, {"w": torch.ones(1)}, {})
    assert names(folder) == ["step-00000010", "step-00000012"]
    checkpoints.clear()
    assert not folder.exists()
    checkpoints.clear()


def damage(path, how: str) -> None:
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif how == "bit":
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()


FILES = ["trainable.safetensors", "state.pt", "checksums.json"]


@pytest.mark.filterwarnings("ignore:.*going back")
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["cut", "bit", "gone"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path, accelerator, file, how):
    expected, epochs = run(tmp_path / "whole", accelerator, save_every=2)
    with pytest.raises(Interrupted):
        run(tmp_path / "resumed", accelerator, save_every=2, stop_at_step=5)
    folder = tmp_path / "resumed" / "checkpoints"
    assert names(folder) == ["step-00000003", "step-00000004"]
    damage(folder / "step-00000004" / file, how)
    with pytest.warns(RuntimeWarning, match="step-00000004: damaged .*going back to the checkpoint before it"):
        make_loop(tmp_path / "resumed", accelerator)
    finish_and_compare(tmp_path, accelerator, 2, expected, epochs)
    assert names(folder) == ["step-00000004", "step-00000006"]


@pytest.mark.filterwarnings("ignore:.*going back")
def test_a_damaged_checkpoint_never_outlives_an_intact_one(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    for step in (2, 10):
        checkpoints.save(step, trainable_state(nn.Linear(1, 1)), {"step": step})
    damage(folder / "step-00000010" / "state.pt", "cut")
    again = Checkpoints(folder)
    assert again.resume(nn.Linear(1, 1)) == {"step": 2}
    again.save(3, trainable_state(nn.Linear(1, 1)), {"step": 3})
    assert names(folder) == ["step-00000002", "step-00000003"]


@pytest.mark.filterwarnings("ignore:.*going back")
def test_without_an_intact_checkpoint_the_folder_is_named(tmp_path, accelerator):
    run(tmp_path, accelerator)
    folder = tmp_path / "checkpoints"
    for path in folder.iterdir():
        damage(path / "state.pt", "cut")
    with pytest.raises(VitaskError, match="checkpoints: no checkpoint is intact; remove the folder to start over"):
        run(tmp_path, accelerator)


@pytest.mark.parametrize("module", [nn.Linear(4, 1), ToyTask(dtype=torch.float64).requires_grad_(True)])
def test_checkpoint_of_another_model_is_refused(tmp_path, module):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, trainable_state(ToyTask()), {})
    with pytest.raises(VitaskError, match=r"step-00000001: cannot resume .*tensors differ.*; remove the folder"):
        checkpoints.resume(module)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
def test_a_signal_saves_between_two_steps_and_the_rest_follows(tmp_path, accelerator, number, step):
    expected, epochs = run(tmp_path / "whole", accelerator)
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Stopped, match=rf"stopped by {number.name} after step {step} of 6; the same command") as stopped:
        run(tmp_path / "resumed", accelerator, signal_at_step=(step, number))
    assert stopped.value.exit_code == 0
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert Checkpoints(tmp_path / "resumed" / "checkpoints").latest().name == f"step-{step:08d}"
    finish_and_compare(tmp_path, accelerator, 0, expected, epochs)


def test_a_second_signal_ends_at_once(tmp_path, accelerator):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, accelerator, after_step=twice)
