"""`vitask train`: one stage or a pipeline of them, with the earlier stages that they start from."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from vitask.config.build import join_ranks
from vitask.errors import UsageError, VitaskError
from vitask.runs.folder import RunFolder, is_main, say, wait_for_everyone
from vitask.runs.identity import at_stage, needs_tsm, run_folder

if TYPE_CHECKING:
    from vitask.config.schema import Config


def train(config: Config) -> list[RunFolder]:
    """Train what the configuration asks for and return its run folders, in order.

    Raises:
        UsageError: the pipeline leaves out the stage that was configured.
        VitaskError: the run is finished and `overwrite` is off, an earlier stage is missing and
            `prerequisites=require`, or training fails.
    """
    if config.stage.terms and config.stage.name not in config.stage.pipeline:
        raise UsageError(f"stage.pipeline: does not hold the stage itself, stage.name={config.stage.name}")
    join_ranks(config.launch)
    stages = [config if name == config.stage.name else at_stage(config, name) for name in config.stage.pipeline]
    runs = []
    for stage in stages:
        run = RunFolder(run_folder(stage))
        if run.finished and not config.overwrite:
            if len(stages) == 1:
                raise VitaskError(
                    f"{run.path} is finished; add overwrite=true to train it again, or tag=... to keep both"
                )
            say(f"{stage.stage.name}: finished before, {run.path}")
        else:
            _discard(run)
            _ensure_prerequisites(stage)
            _train_one(stage, run)
        runs.append(run)
    return runs


def prerequisites(config: Config) -> list[Config]:
    """Return the earlier stages that a stage starts from, in order."""
    if config.stage.name == "tsm":
        return []
    names = [
        *(["tsm"] if needs_tsm(config) else []),
        *([config.stage.init_from] if config.stage.init_from else []),
    ]
    return [at_stage(config, name) for name in names]


def _ensure_prerequisites(config: Config) -> None:
    for earlier in prerequisites(config):
        run = RunFolder(run_folder(earlier))
        if run.finished:
            continue
        if config.prerequisites == "require":
            raise VitaskError(
                f"stage {config.stage.name} starts from {run.path}, which is not finished; "
                f"run stage={earlier.stage.name} first, or leave prerequisites=train"
            )
        say(f"stage {config.stage.name} needs stage {earlier.stage.name}, which is not trained yet: training it first")
        _ensure_prerequisites(earlier)
        _train_one(earlier, run)


def _train_one(config: Config, run: RunFolder) -> None:
    from vitask.runs.train_tsm import train_tsm
    from vitask.runs.train_vlm import train_vlm

    summary = (train_tsm if config.stage.name == "tsm" else train_vlm)(config, run)
    if is_main():
        run.finish(summary)
    wait_for_everyone()
    say(f"{config.stage.name}: {summary['steps']} steps in {summary['seconds']:.0f} s, {run.path}")


def _discard(run: RunFolder) -> None:
    """Remove a finished run that is to be trained again; an interrupted one stays, to be resumed."""
    finished = run.finished
    wait_for_everyone()
    if finished and is_main():
        shutil.rmtree(run.path)
    wait_for_everyone()
