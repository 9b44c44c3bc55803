"""Harder versions of a task: noisy training labels, a long tail, fewer images. Only the training split changes.

Each adds a note, which is printed beside every result, and changes the fingerprint. A condition that would change
nothing returns the task itself.
"""

from __future__ import annotations

import numpy as np

from vitask.data.task import TaskData, with_train
from vitask.errors import UsageError


def with_label_noise(task: TaskData, rate: float, seed: int) -> TaskData:
    """Give exactly ``round(rate * n)`` random training images another answer, uniform over the other candidates.

    Raises:
        UsageError: ``rate`` is not in [0, 1), or the task has no labels.

    Example:
        >>> with_label_noise(digits, rate=0.4, seed=0).notes
        {'label noise': '40 % of training labels replaced by another label, seed 0 (288 of 719)'}
    """
    if not 0 <= rate < 1:
        raise UsageError(f"label noise rate must be in [0, 1), got {rate}")
    answers = _answers(task)
    count = round(rate * len(answers))
    if not count:
        return task
    if task.open_ended:
        raise UsageError(f"data.label_noise: {task.name} has responses in words, no labels to replace; leave it at 0")
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(answers), size=count, replace=False)
    answers[rows] = _another(answers[rows], task.candidates, rng)
    train = task.splits["train"].with_answers(answers.tolist())
    text = f"{rate * 100:g} % of training labels replaced by another label, seed {seed} ({count} of {len(answers)})"
    return with_train(task, train, {"label noise": text})


def with_imbalance(task: TaskData, ratio: float, seed: int) -> TaskData:
    """Subsample the training split to a long tail: the class of rank r keeps ``n_max * ratio ** (r / (K - 1))`` images.

    ``n_max`` is the size of the largest class; the order of the classes is random. A class keeps at least one image
    and at most what it has.

    Raises:
        UsageError: ``ratio`` is not in (0, 1], or the task is multi-label or open-ended.

    Example:
        >>> with_imbalance(digits, ratio=0.1, seed=0).notes["class imbalance"]
        'training set long-tailed, ratio 0.1, seed 0: zero 26, one 16, ...'
    """
    if not 0 < ratio <= 1:
        raise UsageError(f"imbalance ratio must be in (0, 1], got {ratio}")
    if task.multi_label or task.open_ended:
        kind = "open-ended" if task.open_ended else "multi-label"
        raise UsageError(f"class imbalance needs one label an image, but {task.name} is {kind}")
    if ratio == 1:
        return task
    rng = np.random.default_rng(seed)
    answers = _answers(task)
    counts = np.bincount(answers, minlength=len(task.labels))
    ranks = rng.permutation(len(counts))
    targets = np.rint(counts.max() * ratio ** (ranks / (len(counts) - 1))).astype(int)
    keep = np.clip(targets, 1, counts)
    rows = [rng.permutation(np.flatnonzero(answers == k))[:n] for k, n in enumerate(keep)]
    sizes = ", ".join(f"{label} {n}" for label, n in zip(task.labels, keep, strict=True))
    note = f"training set long-tailed, ratio {ratio:g}, seed {seed}: {sizes}"
    train = task.splits["train"].select(np.sort(np.concatenate(rows)))
    return with_train(task, train, {"class imbalance": note})


def with_train_fraction(task: TaskData, fraction: float, seed: int) -> TaskData:
    """Keep a stratified part of the training split: of each answer ``fraction * n`` images, to within one.

    With one label an image, every class keeps at least one image.

    Raises:
        UsageError: ``fraction`` is not in (0, 1].

    Example:
        >>> with_train_fraction(digits, fraction=0.1, seed=0).notes
        {'training fraction': '10 % of the training set, seed 0 (72 of 719)'}
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"training fraction must be in (0, 1], got {fraction}")
    if fraction == 1:
        return task
    answers = _answers(task)
    total, size = len(answers), max(1, round(fraction * len(answers)))
    if size == total:
        return task
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(total)
    by_answer = shuffled[np.argsort(answers[shuffled], kind="stable")]
    rows = by_answer[((np.arange(size) + rng.random()) * total / size).astype(int)]  # every (total/size)-th of the list
    if not (task.multi_label or task.open_ended):
        first = by_answer[np.unique(answers[by_answer], return_index=True)[1]]
        rows = np.concatenate([rows, first[~np.isin(answers[first], answers[rows])]])
    note = f"{fraction * 100:g} % of the training set, seed {seed} ({len(rows)} of {total})"
    return with_train(task, task.splits["train"].select(np.sort(rows)), {"training fraction": note})


def _answers(task: TaskData) -> np.ndarray:
    return np.array(task.splits["train"]["answer"])


def _another(answers: np.ndarray, candidates: int, rng: np.random.Generator) -> np.ndarray:
    other = rng.integers(candidates - 1, size=len(answers))
    return other + (other >= answers)
