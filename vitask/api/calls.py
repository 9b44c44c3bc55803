"""Train, evaluate and compose under the names of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitask.config.schema import Config


def compose(*overrides: str, **options: Any) -> Config:
    """Compose the configuration of a training run, checked as on the command line.

    Args:
        overrides: as the command line takes them, `"stage=ep"`, `"optim.lr=1e-3"`.
        options: the same as keywords, `seed=3`; dotted names go in as `**{"optim.epochs": 2}`.

    Raises:
        UsageError: a key or value is unknown, missing or out of range.

    Example:
        >>> vitask.compose("stage=ep", seed=3).seed
        3
    """
    from vitask.config.compose import compose_config

    return compose_config("train", _words(overrides, options))


def train(*overrides: str, **options: Any) -> list[Path]:
    """Train a stage, or the whole pipeline, as `vitask train` does.

    Args:
        overrides: see `compose`.
        options: see `compose`.

    Returns:
        The run folders of the stages that were asked for, in order; those that were finished before among them.

    Raises:
        UsageError: the request is wrong.
        VitaskError: training fails, or a single stage that was asked for is finished already.

    Example:
        >>> *_, run = vitask.train("stage=all", "data=image_folder", "data.root=photos", seed=0)
    """
    config = compose(*overrides, **options)
    from vitask.runs.train import train as train_stages

    return [run.path for run in train_stages(config)]


def evaluate(*overrides: str, **options: Any) -> list[dict[str, Any]]:
    """Score a finished run, as `vitask evaluate` does.

    Args:
        overrides: those of `vitask evaluate`.
        options: the same as keywords.

    Returns:
        What the `metrics.json` of each mode holds: without, then with the exemplar.

    Raises:
        UsageError: the request is wrong.
        VitaskError: the run is not finished, or something of it is missing, damaged or changed.

    Example:
        >>> without, with_exemplar = vitask.evaluate(run=run, split="val")
        >>> without["accuracy"], without["intervals"]["accuracy"]
        (0.83, [0.80, 0.86])
    """
    from vitask.config.compose import compose_config

    request = compose_config("evaluate", _words(overrides, options))
    from vitask.runs.evaluate import evaluate as evaluate_run

    return evaluate_run(request)


def _words(overrides: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    """Write keywords as the command line would have them."""
    return [*overrides, *(f"{key}={_word(value)}" for key, value in options.items())]


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_inner(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inner, value)) + "]"
    return str(value)


def _inner(value: Any) -> str:
    """A value inside a list or a dictionary, where a text may hold any character."""
    if isinstance(value, str | os.PathLike):
        return "'" + str(value).replace("'", r"\'") + "'"
    return _word(value)
