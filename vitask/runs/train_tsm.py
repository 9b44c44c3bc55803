"""Stage `tsm`: the task-specific model, tuned on class labels; the best epoch by validation is kept."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from vitask.config.accelerator import build_accelerator, start_trackers
from vitask.config.build import (
    build_average,
    build_mixing,
    build_optimizer,
    build_scheduler,
    build_settings,
    build_shares,
    build_task,
    build_tsm,
)
from vitask.data import label_ranges, members_of
from vitask.errors import VitaskError
from vitask.evaluation.collapse import collapse
from vitask.evaluation.metrics import label_metrics, predictions_of
from vitask.runs.folder import Stopwatch, is_main, say, stage_summary
from vitask.runs.out_of_fold import train_folds
from vitask.training.checkpoint import Checkpoints
from vitask.training.cost import CostMeter
from vitask.training.loop import Loop
from vitask.training.recorder import Recorder
from vitask.training.tsm_data import TSMTrainingData, joint_targets
from vitask.training.tsm_task import TSMTask, joint_heads
from vitask.tsm import build_transform, load_tsm, save_tsm, weights_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.evaluation.metrics import Predictions
    from vitask.runs.folder import RunFolder
    from vitask.tsm import TSM


def train_tsm(config: Config, run: RunFolder) -> dict[str, Any]:
    """Train the TSM of a configuration into a run folder and return the run's summary.

    With `tsm.tune=none` nothing trains: the encoder is saved as it comes, for its exemplars.
    """
    watch = Stopwatch()
    set_seed(config.seed)
    task = build_task(config.data, config.seed, config.cache)
    run.begin(config, task)
    tsm = build_tsm(config.tsm, len(task.labels))
    results = (_keep if config.tsm.tune == "none" else _tune)(config, run, task, tsm)
    if config.tsm.folds is not None and config.tsm.tune != "none":
        results |= train_folds(config, run, task, _tune)
    return stage_summary(config, watch, tune=config.tsm.tune, **results)


def _keep(config: Config, run: RunFolder, task: TaskData, tsm: TSM) -> dict[str, Any]:
    """Save the encoder that nothing trains, and return that no step was taken."""
    if not config.tsm.pretrained and config.tsm.checkpoint is None:
        say("tsm.tune=none without tsm.pretrained or tsm.checkpoint: the encoder's weights are random")
    if is_main():
        save_tsm(tsm, run.tsm, tsm_meta(task))
    return {"steps": 0, "cost": CostMeter(tsm, torch.device("cpu")).summary()}


def _tune(config: Config, run: RunFolder, task: TaskData, tsm: TSM) -> dict[str, Any]:
    """Train and keep the best epoch; return its number and figures, and the steps taken."""
    accelerator = build_accelerator(config.launch, config.logger, run.path)
    tsm.to(accelerator.device)
    trained, data = assemble_tsm(config, task, tsm)
    average = build_average(config.tsm, tsm)
    best = BestTSM(average.module if average else tsm, task, run.tsm, config.launch.workers, averaged=bool(average))
    loop = Loop(
        trained,
        data,
        build_optimizer(config.tsm.optim, tsm),
        build_scheduler(config.tsm.optim),
        build_settings(config, config.tsm.optim),
        accelerator,
        Checkpoints(run.checkpoints),
        shares=build_shares(config.tsm.optim.sampling, task),
        description=f"tsm {task.name}",
        after_step=(lambda step: average.update(tsm, step)) if average else None,
        after_epoch=best.update,
        extra_state=best,
    )
    start_trackers(accelerator, config.logger, run.path, run_id=run.id, step=loop.step)
    recorder = Recorder(run.path, accelerator, resume_from=loop.step)
    loop.run(recorder)
    recorder.finish()
    for text in best.warnings:
        accelerator.print(f"warning: {text}")
    said = [*loop.alerts.raised, *({"step": loop.step, "warning": text} for text in best.warnings)]
    return {"steps": loop.step, **best.best, "cost": loop.cost.summary(), "warnings": said}


def assemble_tsm(config: Config, task: TaskData, tsm: TSM) -> tuple[TSMTask, TSMTrainingData]:
    """Build what the loop trains when it tunes a TSM, and its training split."""
    transform = build_transform(tsm.data_config, config.tsm.augment, training=True)
    data = TSMTrainingData(task, transform, config.seed, build_mixing(config.tsm))
    heads = joint_heads(task, data.targets, data.members, balanced=config.tsm.balanced)
    return TSMTask(tsm, heads, config.tsm.label_smoothing), data


class BestTSM:
    """Keeps the epoch with the highest validation macro-F1 (mean over data sets); of equals, that of the lowest loss.

    Args:
        tsm: the model that trains, or the average of its weights.
        task: its data, for the validation split and the label texts.
        folder: where the best one is saved.
        workers: data-loading processes.
        averaged: whether it is the average, which an interrupted run then takes up from here.

    Attributes:
        best: the number of the kept epoch and its figures.
        warnings: of the kept epoch, a data set that gets one answer whatever the image.
    """

    def __init__(self, tsm: TSM, task: TaskData, folder: Path, workers: int, *, averaged: bool = False) -> None:
        self.tsm = tsm
        self.averaged = averaged
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
        self.warnings: list[str] = []
        self.digest: str | None = None

    def update(self, epoch: int) -> dict[str, float]:
        """Validate after an epoch, save the model if it is the best so far, and return the figures to log."""
        predictions = self._predict()
        metrics, order = _figures(predictions), ("val_macro_f1", "val_log_likelihood")
        if not self.best or [metrics[key] for key in order] > [self.best[key] for key in order]:
            self.best, self.warnings = {"best_epoch": epoch, **metrics}, list(self._collapsed(predictions))
            if is_main():
                self.digest = save_tsm(self.tsm, self.folder, tsm_meta(self.task))
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch with its figures, warnings and digest, and the averaged weights."""
        return {
            "best": dict(self.best),
            "digest": self.digest,
            "warnings": self.warnings,
            "average": self.tsm.state_dict() if self.averaged else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up an interrupted run; what it kept of an epoch that is not over yet has no figures, and no say."""
        if _digest_on_disk(self.folder) == state.get("digest"):
            self.best, self.warnings, self.digest = dict(state["best"]), list(state["warnings"]), state.get("digest")
        if self.averaged:
            self.tsm.load_state_dict(state["average"])

    def _predict(self) -> list[Predictions]:
        """What it says of the validation split, a data set at a time, over that set's own labels."""
        device, training = next(self.tsm.parameters()).device, self.tsm.training
        self.tsm.eval()
        with torch.inference_mode():
            logits = torch.cat([self.tsm(pixels.to(device)).float().cpu() for pixels in self.loader])
        self.tsm.train(training)
        return [self._of_set(number, logits) for number in range(len(members_of(self.task)))]

    def _of_set(self, number: int, logits: torch.Tensor) -> Predictions:
        member, labels = members_of(self.task)[number], label_ranges(self.task)[number]
        own = self.members == number
        targets, scores = (each[own][:, labels.start : labels.stop] for each in (self.targets, logits))
        truth = targets if member.multi_label else targets.argmax(-1)
        return predictions_of(truth, probabilities(scores, member.multi_label), member.multi_label)

    def _collapsed(self, predictions: Sequence[Predictions]) -> Iterator[str]:
        for member, found in zip(members_of(self.task), predictions, strict=True):
            if text := collapse(found.truth, found.chosen, member.labels):
                yield f"TSM, {member.name}, validation split: {text}"


def _digest_on_disk(folder: Path) -> str | None:
    """The digest of the weights that are there; none if there are none whole, as after a kill before the settings."""
    try:
        return weights_digest(load_tsm(folder)[0])
    except VitaskError:
        return None


def _figures(predictions: Sequence[Predictions]) -> dict[str, float]:
    """Return the mean over data sets of every figure that all of them have."""
    figures = [label_metrics(found) for found in predictions]
    shared = [name for name in figures[0] if all(name in figure for figure in figures)]
    return {f"val_{name}": statistics.mean(figure[name] for figure in figures) for name in shared}


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
