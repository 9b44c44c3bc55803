"""The training loop: it knows steps, precision, checkpoints and logs, and nothing of the paper."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object, send_to_device
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader

from vitask.errors import VitaskError
from vitask.interruption import Stopped
from vitask.training.alerts import Alerts
from vitask.training.checkpoint import Checkpoints, trainable_state
from vitask.training.cost import CostMeter
from vitask.training.failures import NonFiniteLoss, memory_remedy
from vitask.training.preemption import Preemption, leave_signals_to_the_parent
from vitask.training.ranks import LostRank, gather_parameters, gathered, is_lost_rank, scattered, shard
from vitask.training.sampling import random_state, rank_share, restore_random_state
from vitask.training.shares import Shares

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from vitask.training.protocols import TrainingData
    from vitask.training.recorder import Recorder


@dataclass(frozen=True)
class LoopSettings:
    """How long and in which portions to train.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples of one optimiser step, over all ranks and micro-batches.
        micro_batch_size: samples of one forward on one rank; `None` for a rank's whole share.
        clip: largest gradient norm; 0 for none.
        workers: data-loading processes.
        log_every: steps between two log lines.
        save_every: steps between two checkpoints; 0 for none by steps. There is one at the end of each epoch.
        save_minutes: minutes after which the next step ends with a checkpoint; 0 for none by time.
        seed: of data order and initialisation.
    """

    epochs: int
    batch_size: int
    micro_batch_size: int | None
    clip: float
    workers: int
    log_every: int
    save_every: int
    seed: int
    save_minutes: float = 0


class Loop:
    """Trains a task; resumes from the newest checkpoint of the run folder as if it had not been interrupted.

    Args:
        task: the module (see `protocols.Task`), on the CPU and with its frozen parts frozen.
        data: the training split.
        optimizer: over the task's trainable parameters.
        scheduler: builds the learning-rate schedule from the optimiser and the number of steps.
        settings: portions and lengths.
        accelerator: precision, device, ranks.
        checkpoints: where to save and resume.
        shares: which samples an epoch holds; by default each once.
        layers: names of the layer classes to split over the ranks (FSDP2); by default every rank holds the whole task.
        description: text beside the progress bar.
        after_step: called after every optimiser step with its number (from 1).
        after_epoch: called after every epoch with its number (from 1); what it returns is logged.
        extra_state: `state_dict`/`load_state_dict` object saved along, for what the callbacks keep.
    """

    def __init__(
        self,
        task: nn.Module,
        data: TrainingData,
        optimizer: Optimizer,
        scheduler: Callable[[Optimizer, int], LRScheduler],
        settings: LoopSettings,
        accelerator: Accelerator,
        checkpoints: Checkpoints,
        *,
        shares: Shares | None = None,
        layers: Collection[str] = (),
        description: str = "training",
        after_step: Callable[[int], None] | None = None,
        after_epoch: Callable[[int], dict[str, float]] | None = None,
        extra_state: Any = None,
    ) -> None:
        self.bare_task = task
        self.data = data
        self.settings = settings
        self.accelerator = accelerator
        self.checkpoints = checkpoints
        self.description = description
        self.after_step = after_step
        self.after_epoch = after_epoch
        self.extra_state = extra_state
        self.shares = shares or Shares([0] * len(data), [0] * len(data))
        self.steps_per_epoch = self.shares.steps_per_epoch(settings.batch_size)
        self.total_steps = self.steps_per_epoch * settings.epochs
        self.scheduler = scheduler(optimizer, self.total_steps)
        self.step = 0
        self.clock = time.perf_counter()  # the moment of the last step, waiting for data included
        self.cost = CostMeter(task, accelerator.device)
        self.alerts = Alerts(settings.workers, self.total_steps)
        self.sharded = bool(layers) and accelerator.num_processes > 1
        if self.sharded:
            shard(accelerator, layers)
        if (state := checkpoints.resume(task)) is not None:
            self._restore(state)
        self._require_one_step()
        self.saved = time.perf_counter()
        self.task, self.optimizer = accelerator.prepare(task, optimizer)
        if state is not None:
            self.optimizer.load_state_dict(scattered(state["optimizer"], optimizer))

    def run(self, recorder: Recorder) -> None:
        """Train to the end.

        Raises:
            NonFiniteLoss: a loss part or the gradient is NaN or infinite; the last checkpoint stays.
            LostRank: another rank ended.
            Stopped: SIGTERM or SIGINT came; a checkpoint of this moment is there.
            VitaskError: memory ran out, or a data-loading process was killed.
        """
        try:
            self._train(recorder)
        except Exception as error:
            if is_lost_rank(error):
                raise LostRank(f"after step {self.step}: another rank ended, and this one stops with it") from error
            if (remedy := memory_remedy(error)) is None:
                raise
            reason = str(error).splitlines()[0]
            raise VitaskError(
                f"after step {self.step}: {reason} Try {remedy}; the same command goes on from the last checkpoint"
            ) from error
        if self.sharded:
            gather_parameters(self.bare_task, frozen=False)

    def _train(self, recorder: Recorder) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        loss = TextColumn("{task.fields[loss]}")
        with (
            Preemption() as preemption,
            Progress(*columns, loss, disable=not self.accelerator.is_main_process) as progress,
        ):
            self.cost.start()
            bar = progress.add_task(self.description, total=self.total_steps, completed=self.step, loss="")
            for epoch in range(self.step // self.steps_per_epoch, self.settings.epochs):
                self.task.train()
                self.clock = time.perf_counter()
                asked = time.perf_counter()
                for micro_batches in self._epoch(epoch):
                    waited = time.perf_counter() - asked
                    values, answers = self._optimise(micro_batches)
                    took, skipped = time.perf_counter() - asked, self.optimizer.step_was_skipped
                    seen = {"waited": waited, "took": took, "skipped": skipped, "answers": answers}
                    for text in self.alerts.observe(self.step, values, **seen):
                        self.accelerator.print(f"warning: step {self.step}: {text}")
                        recorder.log(self.step, {"warning": text})
                    progress.update(bar, completed=self.step, loss=f"loss {values['loss']:.3f}")
                    if self.step % self.settings.log_every == 0 or self.step == self.total_steps:
                        recorder.log(self.step, {"epoch": self.step / self.steps_per_epoch, **values})
                    stop, late = self._agreed(preemption)
                    within = self.step % self.steps_per_epoch != 0  # at its end `after_epoch` goes before
                    if within and (stop or late or self._due_for_checkpoint()):
                        self.save()
                    if within and stop:
                        raise self._stopped(preemption)
                    asked = time.perf_counter()
                if self.after_epoch is not None:
                    recorder.log(self.step, {"epoch": epoch + 1, **self.after_epoch(epoch + 1)})
                self.save()
                if self._agreed(preemption)[0]:
                    raise self._stopped(preemption)

    def _require_one_step(self) -> None:
        """Raise a `VitaskError` unless all ranks go on from the same step."""
        if len(steps := set(gather_object([self.step]))) > 1:
            raise VitaskError(
                f"{self.checkpoints.folder}: the ranks see different checkpoints, of steps "
                f"{', '.join(map(str, sorted(steps)))}; out= has to be a folder that all machines share"
            )

    def _due_for_checkpoint(self) -> bool:
        every = self.settings.save_every
        return bool(every) and self.step % every == 0

    def _agreed(self, preemption: Preemption) -> tuple[bool, bool]:
        """Whether any rank was told to stop, and whether any finds the last checkpoint too old: the same on all."""
        minutes = (time.perf_counter() - self.saved) / 60
        late = 0 < self.settings.save_minutes <= minutes
        own = torch.tensor([preemption.asked is not None, late], dtype=torch.float32, device=self.accelerator.device)
        stop, late = (self.accelerator.reduce(own, "sum") > 0).tolist()
        return stop, late

    def _over_ranks(self, value: float, reduction: str) -> float:
        """The sum, or the largest, of what each rank has."""
        own = torch.tensor(float(value), device=self.accelerator.device)
        return self.accelerator.reduce(own, reduction).item()

    def _stopped(self, preemption: Preemption) -> Stopped:
        return Stopped(
            f"stopped by {preemption.asked or 'another rank'} after step {self.step} of {self.total_steps}; "
            "the same command goes on from there"
        )

    def save(self) -> None:
        """Write a resumable checkpoint of this moment, the same whether the ranks share the model or each hold it."""
        states = gather_object([random_state()])
        weights, optimizer = gathered(trainable_state(self.bare_task)), gathered(self.optimizer.state_dict())
        if self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "optimizer": optimizer,
                "scheduler": self.scheduler.state_dict(),
                "random": states,
                "cost": self.cost.state_dict(),
                "alerts": self.alerts.state_dict(),
                "extra": self.extra_state.state_dict() if self.extra_state is not None else None,
            }
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            self.checkpoints.save(self.step, weights, state)
        self.accelerator.wait_for_everyone()
        self.saved = time.perf_counter()

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.scheduler.load_state_dict(state["scheduler"])
        self.cost.load_state_dict(state["cost"])
        self.alerts.load_state_dict(state["alerts"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.extra_state is not None:
            self.extra_state.load_state_dict(state["extra"])
        own, before, now = self.accelerator.process_index, len(state["random"]), self.accelerator.num_processes
        if before != now:
            self.accelerator.print(
                f"warning: begun on {before} rank(s), goes on with {now}: random numbers, and terms that compare the "
                "images of one forward, are not those of a run that was not interrupted"
            )
        restore_random_state(state["random"][own if before == now else 0])

    def _epoch(self, epoch: int) -> Iterator[list[Mapping[str, Any]]]:
        """Yield the remaining steps of an epoch, each as this rank's micro-batches."""
        settings, ranks = self.settings, self.accelerator.num_processes
        steps = self.shares.steps(settings.batch_size, seed=settings.seed, epoch=epoch)
        keys = [rank_share(step, self.accelerator.process_index, ranks) for step in self.data.keys(epoch, steps)]
        size = settings.micro_batch_size or settings.batch_size
        loader = DataLoader(
            self.data,
            batch_sampler=keys[self.step - epoch * self.steps_per_epoch :],
            collate_fn=lambda items: [
                self.data.collate(items[start : start + size]) for start in range(0, len(items), size)
            ],
            num_workers=settings.workers,
            worker_init_fn=leave_signals_to_the_parent,
            generator=torch.Generator().manual_seed(settings.seed),
        )
        yield from loader

    def _optimise(self, micro_batches: list[Mapping[str, Any]]) -> tuple[dict[str, float], list[list[int]] | None]:
        """Take one optimiser step; return what there is to log about it, and what was answered."""
        accelerator, progress = self.accelerator, self.step / self.total_steps
        batches = [send_to_device(batch, accelerator.device) for batch in micro_batches]
        totals = self._totals(batches)
        own = sum(len(batch["id"]) for batch in batches)
        samples = round(self._over_ranks(own, "sum"))
        rounds = round(self._over_ranks(len(batches), "max")) if self.sharded else len(batches)
        parts: dict[str, Tensor] = {}
        with self.cost.step(own, samples):
            for number in range(rounds):
                idle = number >= len(batches)  # sharded ranks go through the layers together, or wait for ever
                with accelerator.no_sync(self.task) if number < rounds - 1 else nullcontext():
                    with accelerator.autocast() if self.sharded else nullcontext():  # else the task brings it along
                        out = self.task(batches[0 if idle else number], totals, progress)
                    accelerator.backward(out["loss"] * (0 if idle else accelerator.num_processes))
                for name, value in () if idle else out.items():
                    parts[name] = parts.get(name, 0) + value.detach()
        parts = {name: accelerator.reduce(value, "sum") for name, value in parts.items()}
        answers = parts.pop("answers", None)
        self._check_finite(parts)
        norm = self._clip()
        if accelerator.scaler is None:  # a scaler skips such a step by itself
            self._check_finite({**parts, "gradient norm": torch.tensor(norm)})
        self.optimizer.step()
        rates = self.scheduler.get_last_lr()
        if not self.optimizer.step_was_skipped:
            self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.after_step is not None:
            self.after_step(self.step)
        values = {name: value.item() for name, value in parts.items()}
        now = time.perf_counter()
        rate, self.clock = samples / (now - self.clock), now
        values |= {"lr": max(rates), "grad_norm": norm, "samples_per_second": round(rate, 1)}
        return values, None if answers is None else answers.tolist()

    def _totals(self, batches: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        counts = [self.bare_task.counts(batch) for batch in batches]
        return {name: self.accelerator.reduce(sum(c[name] for c in counts), "sum") for name in counts[0]}

    def _clip(self) -> float:
        trainable = [p for p in self.bare_task.parameters() if p.requires_grad]
        return float(gathered(self.accelerator.clip_grad_norm_(trainable, self.settings.clip or math.inf)))

    def _check_finite(self, parts: Mapping[str, Tensor]) -> None:
        broken = [name for name, value in parts.items() if name != "loss" and not torch.isfinite(value)]
        if broken or not torch.isfinite(parts["loss"]):
            kept = self.checkpoints.latest()
            what = " and ".join(f"{name!r} is {parts[name].item()}" for name in broken or ["loss"])
            raise NonFiniteLoss(
                f"step {self.step + 1}: loss part {what}; stopped. "
                f"{f'The checkpoint {kept} is intact' if kept else 'There is no checkpoint yet'}. "
                "Try a lower learning rate (optim.lr) or launch.precision=no."
            )
