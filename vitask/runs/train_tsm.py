"""Stage `tsm`: the task-specific model, fully fine-tuned on class labels; the best epoch by validation is kept."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from vitask.config.build import (
    build_accelerator,
    build_optimizer,
    build_scheduler,
    build_settings,
    build_shares,
    build_task,
    build_tsm,
)
from vitask.data import label_ranges, members_of
from vitask.evaluation.metrics import label_metrics
from vitask.runs.folder import Stopwatch, is_main, stage_summary
from vitask.training.checkpoint import Checkpoints
from vitask.training.loop import Loop
from vitask.training.recorder import Recorder
from vitask.training.tsm_data import TSMTrainingData, joint_targets
from vitask.training.tsm_task import TSMTask, joint_heads
from vitask.tsm import build_transform, save_tsm

if TYPE_CHECKING:
    from pathlib import Path

    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.runs.folder import RunFolder
    from vitask.tsm import TSM


def train_tsm(config: Config, run: RunFolder) -> dict[str, Any]:
    """Train the TSM of a configuration into a run folder and return the run's summary."""
    watch = Stopwatch()
    set_seed(config.seed)
    task = build_task(config.data, config.seed, config.cache)
    run.begin(config, task)
    accelerator = build_accelerator(config.launch, config.logger, run.path)
    tsm = build_tsm(config.tsm, len(task.labels))
    transform = build_transform(tsm.data_config, config.tsm.augment, training=True)
    data = TSMTrainingData(task, transform, config.seed if config.tsm.augment else None)
    heads = joint_heads(task, data.targets, data.members, balanced=config.tsm.balanced)
    best = BestTSM(tsm, task, run.tsm, config.launch.workers)
    loop = Loop(
        TSMTask(tsm, heads, config.tsm.label_smoothing),
        data,
        build_optimizer(config.tsm.optim, tsm),
        build_scheduler(config.tsm.optim),
        build_settings(config, config.tsm.optim),
        accelerator,
        Checkpoints(run.checkpoints),
        shares=build_shares(config.tsm.optim.sampling, task),
        description=f"tsm {task.name}",
        after_epoch=best.update,
        extra_state=best,
    )
    recorder = Recorder(run.path, accelerator, resume_from=loop.step)
    loop.run(recorder)
    recorder.finish()
    parameters = sum(p.numel() for p in tsm.parameters())
    return stage_summary(config, watch, loop.step, parameters=parameters, **best.state_dict())


class BestTSM:
    """Keeps the epoch with the highest validation macro-F1 (mean over data sets); of equals, that of the lowest loss.

    Args:
        tsm: the model that trains.
        task: its data, for the validation split and the label texts.
        folder: where the best one is saved.
        workers: data-loading processes.
    """

    def __init__(self, tsm: TSM, task: TaskData, folder: Path, workers: int) -> None:
        self.tsm = tsm
        self.task = task
        self.folder = folder
        self.targets, self.members = joint_targets(task, "val")
        transform = build_transform(tsm.data_config, None, training=False)
        images = task.splits["val"]["image"]
        self.loader = DataLoader(
            range(len(images)),
            batch_size=64,
            collate_fn=lambda rows: torch.stack([transform(images[row]) for row in rows]),
            num_workers=workers,
            generator=torch.Generator(),
        )
        self.best: dict[str, float] = {}

    def update(self, epoch: int) -> dict[str, float]:
        """Validate after an epoch, save the model if it is the best so far, and return the figures to log."""
        metrics = self._validate()
        order = ("val_macro_f1", "val_log_likelihood")
        if not self.best or [metrics[key] for key in order] > [self.best[key] for key in order]:
            self.best = {"best_epoch": epoch, **metrics}
            if is_main():
                save_tsm(self.tsm, self.folder, tsm_meta(self.task))
        return metrics

    def state_dict(self) -> dict[str, float]:
        """Return the best epoch and its figures."""
        return dict(self.best)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up the best epoch of an interrupted run."""
        self.best = dict(state)

    def _validate(self) -> dict[str, float]:
        device = next(self.tsm.parameters()).device
        self.tsm.eval()
        with torch.inference_mode():
            logits = torch.cat([self.tsm(pixels.to(device)).float().cpu() for pixels in self.loader])
        self.tsm.train()
        figures = [self._score(number, logits) for number in range(len(members_of(self.task)))]
        return {f"val_{name}": statistics.mean(figure[name] for figure in figures) for name in figures[0]}

    def _score(self, number: int, logits: torch.Tensor) -> dict[str, float]:
        """Figures of one data set, over its own labels."""
        member, labels = members_of(self.task)[number], label_ranges(self.task)[number]
        own = self.members == number
        targets, scores = (each[own][:, labels.start : labels.stop] for each in (self.targets, logits))
        truth = targets if member.multi_label else targets.argmax(-1)
        return label_metrics(truth, probabilities(scores, member.multi_label), member.multi_label)


def tsm_meta(task: TaskData) -> dict[str, Any]:
    """Say what a TSM's outputs stand for: all labels, and of which data set they are."""
    members = [
        {"name": member.name, "start": own.start, "stop": own.stop, "multi_label": member.multi_label}
        for member, own in zip(members_of(task), label_ranges(task), strict=True)
    ]
    return {"labels": list(task.labels), "members": members}


def probabilities(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Turn a TSM's logits `(N, labels)` into probabilities: over the labels, or of each label."""
    return logits.sigmoid() if multi_label else logits.softmax(-1)
