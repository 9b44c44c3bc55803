"""Out-of-fold teachers: what a TSM that was not trained on an image says of it, for every training image.

A TSM that has learnt its training labels by heart teaches them back, wrong ones included. Here K further TSMs are
trained, each without one fold of the training split, and what each says of that fold is kept for closed-set alignment.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vitask.config.build import build_tsm
from vitask.errors import UsageError, VitaskError
from vitask.files import atomic_write
from vitask.runs.folder import RunFolder, is_main, say, wait_for_everyone
from vitask.runs.identity import at_stage, run_folder, term_weights
from vitask.runs.tuned import pick_device
from vitask.training.tsm_data import joint_targets
from vitask.training.tsm_task import joint_heads
from vitask.tsm import TSM, build_transform, compute_exemplars, load_tsm

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.config.schema import Config
    from vitask.data import TaskData

    Tune = Callable[[Config, RunFolder, TaskData, TSM], Any]

FILE, LOGITS, DATA = "out_of_fold.safetensors", "logits", "data"


def train_folds(config: Config, run: RunFolder, task: TaskData, tune: Tune) -> dict[str, Any]:
    """Train a TSM for every fold of the training split and save what each says of its fold, all rows in one file.

    A killed run goes on within the fold that it was at. The folds know no groups: images of one patient, say, may be in
    several of them.

    Args:
        config: the run; `tsm.folds` of them.
        run: its folder.
        task: the data.
        tune: trains a TSM on a task and keeps its best epoch in a run folder.

    Returns:
        For the summary: `out_of_fold` with the number of `folds` and the `accuracy` of what is saved, on the training
        labels, as a mean over data sets.
    """
    path = run.tsm / FILE
    wait_for_everyone()
    there = path.is_file()
    wait_for_everyone()  # every rank has looked before one writes it
    if not there:
        logits = _train_all(config, run, task, tune)
        wait_for_everyone()
        if is_main():
            _save(path, logits, task)
        wait_for_everyone()
    return {"out_of_fold": {"folds": config.tsm.folds, "accuracy": _accuracy(task, _read(path, task))}}


def stratified_folds(answers: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """Divide rows into folds that hold every answer in its proportion, as far as there are enough rows of it.

    Raises:
        UsageError: no answer has a row for every fold.

    Example:
        >>> stratified_folds([0, 0, 1, 1], 2, seed=0)
        [[1, 2], [0, 3]]
    """
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        try:
            return [rows.tolist() for _, rows in folds.split(answers, answers)]
        except ValueError as error:
            raise UsageError(f"tsm.folds={count}: there are too few training images for it: {error}") from error


def teacher_logits(config: Config, task: TaskData, in_sample: Tensor | None) -> Tensor | None:
    """Return the TSM's logits of the training split that closed-set alignment is to learn from.

    Args:
        config: the VLM's run.
        task: the data.
        in_sample: what the TSM itself says, if there is one.

    Raises:
        VitaskError: there are no out-of-fold logits, or they belong to other data.
    """
    if in_sample is None or config.objective.closed_set.teacher == "in_sample" or not term_weights(config)["csa"]:
        return in_sample
    return read_out_of_fold(RunFolder(run_folder(at_stage(config, "tsm"))), task)


def read_out_of_fold(run: RunFolder, task: TaskData) -> Tensor:
    """Read the out-of-fold logits `(N, labels)` of a TSM run, row i belonging to image i of the training split.

    Raises:
        VitaskError: the file is missing or damaged, or belongs to other data.
    """
    return _read(run.tsm / FILE, task)


def _train_all(config: Config, run: RunFolder, task: TaskData, tune: Tune) -> Tensor:
    """Train without one fold after the other; return what each TSM says of its own."""
    parts = stratified_folds(task.splits["train"]["answer"], config.tsm.folds, config.seed)
    silent = replace(config, logger=replace(config.logger, tracker="none"))
    logits = torch.zeros(sum(map(len, parts)), len(task.labels))
    for number, rows in enumerate(parts, start=1):
        say(f"fold {number} of {len(parts)}: a TSM that has not seen {len(rows)} of the training images")
        logits[rows] = _train_fold(silent, RunFolder(run.folds / str(number)), task, rows, tune)
    return logits


def _train_fold(config: Config, fold: RunFolder, task: TaskData, rows: Sequence[int], tune: Tune) -> Tensor:
    """Train without some rows; return the logits of these rows, or read them if the fold was finished before."""
    path = fold.path / FILE
    if not path.is_file():
        split = task.splits["train"]
        others = sorted({*range(len(split))} - {*rows})
        if is_main():
            fold.path.mkdir(parents=True, exist_ok=True)
        wait_for_everyone()
        set_seed(config.seed)
        part = replace(task, splits={**task.splits, "train": split.select(others)})
        tune(config, fold, part, build_tsm(config.tsm, len(task.labels)))
        if is_main():
            _save(path, _logits(config, fold, split.select(rows)["image"]), task)
        wait_for_everyone()
    return _read(path, task)


def _logits(config: Config, fold: RunFolder, images: Sequence[Any]) -> Tensor:
    tsm = load_tsm(fold.tsm)[0].freeze()
    transform = build_transform(tsm.data_config, None, training=False)
    options = {"device": pick_device(config.launch.device), "workers": config.launch.workers}
    return compute_exemplars(tsm, images, kind="cls", transform=transform, **options).logits


def _save(path: Path, logits: Tensor, task: TaskData) -> None:
    tensors, metadata = {LOGITS: logits.contiguous()}, {DATA: task.fingerprint}
    atomic_write(path, lambda temporary: save_file(tensors, temporary, metadata))


def _read(path: Path, task: TaskData) -> Tensor:
    try:
        with safe_open(path, "pt") as file:
            logits, data = file.get_tensor(LOGITS), (file.metadata() or {}).get(DATA)
    except (OSError, SafetensorError) as error:
        raise VitaskError(f"{path}: missing or damaged: {error}") from error
    if data != task.fingerprint:
        raise VitaskError(f"{path}: belongs to other training data; train the TSM again (stage=tsm overwrite=true)")
    return logits


def _accuracy(task: TaskData, logits: Tensor) -> float:
    """How many training labels (label sets) are what the logits say, as a mean over data sets."""
    targets, members = joint_targets(task, "train")
    rights = []
    for number, head in enumerate(joint_heads(task, targets, members, balanced=False)):
        scores, truth = (head.columns(each[members == number]) for each in (logits, targets))
        chosen = scores > 0 if head.multi_label else scores == scores.amax(-1, keepdim=True)
        rights.append((chosen == (truth > 0.5)).all(-1).double().mean().item())
    return statistics.mean(rights)
