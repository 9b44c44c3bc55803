"""`vitask train`: one stage or a pipeline of them, with the earlier stages that they start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitask.config.accelerator import join_ranks
from vitask.config.build import build_hints, build_templates
from vitask.config.compose import load_stage
from vitask.config.embedded import check_embedded
from vitask.config.tuning import check_tuning
from vitask.errors import UsageError, VitaskError
from vitask.interruption import raise_if_told
from vitask.runs.folder import RunFolder, is_main, say, wait_for_everyone
from vitask.runs.identity import at_stage, needs_tsm, run_folder, term_weights, with_hint
from vitask.runs.launch import require_ranks
from vitask.runs.open_ended import check_open_ended
from vitask.runs.overwrite import Overwrite, replaced

if TYPE_CHECKING:
    from vitask.config.schema import Config


def train(config: Config) -> list[RunFolder]:
    """Train what the configuration asks for and return its run folders, in order.

    Raises:
        UsageError: see `planned_stages`.
        VitaskError: the run is finished and `overwrite` is off, an earlier stage is missing and
            `prerequisites=require`, or training fails.
    """
    stages = planned_stages(config)
    require_ranks(config.launch)
    join_ranks(config.launch.device)
    runs = [RunFolder(run_folder(stage)) for stage in stages]
    anew = Overwrite(runs) if config.overwrite else None
    for stage, run in zip(stages, runs, strict=True):
        if run.finished and not (anew and anew.wants(run)):
            if len(stages) == 1:
                raise VitaskError(
                    f"{run.path} is finished; add overwrite=true to train it again, or tag=... to keep both"
                )
            say(f"{stage.stage.name}: finished before, {run.path}")
        else:
            with replaced(run):
                _ensure_prerequisites(stage)
                _train_one(stage, run)
            if anew:
                anew.note(run)
    if anew:
        anew.end()
    return runs


def planned_stages(config: Config) -> list[Config]:
    """Return the configuration of every stage that is to be trained, in order; what they start from may come before.

    Raises:
        UsageError: the pipeline leaves out the stage that was configured, an instruction cannot be written, an embedded
            set would ignore an option, or a stage wants labels or class probabilities that nobody gives.
    """
    if config.stage.terms and config.stage.name not in config.stage.pipeline:
        raise UsageError(f"stage.pipeline: does not hold the stage itself, stage.name={config.stage.name}")
    stages = [config if name == config.stage.name else at_stage(config, name) for name in config.stage.pipeline]
    if not stages:
        raise UsageError("stage.pipeline: is empty, so there is nothing to train")
    for stage in stages:
        _check_start(stage)
    check_embedded(config.data)
    build_templates(config.data)
    build_hints(config.data)
    check_open_ended(config, stages)
    _check_probabilities(config, stages)
    if any(stage.stage.name != "tsm" for stage in stages):
        check_tuning(config.lora)
    if config.exemplar.table is not None and len(stages) > 1:
        stages = [stage for stage in stages if stage.stage.name != "tsm"]
        say("tsm: not trained, as exemplar.table stands in its place")
    return stages


def _check_start(config: Config) -> None:
    """Raise a `UsageError` if a stage has nothing to train, or starts from what is no tuned VLM."""
    name, start = config.stage.name, config.stage.init_from
    if not config.stage.terms and name not in ("tsm", "head"):
        raise UsageError(f"stage.pipeline: stage {name} has no terms of its own to train; name stages that have")
    if start is not None and (start == "tsm" or start not in load_stage(start).pipeline):
        raise UsageError(f"stage.init_from={start}: {name} starts from a tuned VLM, which stage={start} does not give")


def _check_probabilities(config: Config, stages: Sequence[Config]) -> None:
    """Raise a `UsageError` if a stage wants the TSM's class probabilities, and there is no TSM, or no head on it."""
    wanted = {
        "objective.csa": any(term_weights(stage)["csa"] for stage in stages),
        "data.instruction.hint": with_hint(config) and any(stage.stage.name != "tsm" for stage in stages),
    }
    lacking = {
        "exemplar.table": (config.exemplar.table is not None, "leave the table out"),
        "tsm.tune=none": (config.tsm.tune == "none", "train a head with tsm.tune=head"),
    }
    if wanted["objective.csa"] and config.objective.closed_set.teacher == "out_of_fold" and config.tsm.folds is None:
        raise UsageError("objective.closed_set.teacher=out_of_fold: there are no folds; say how many, tsm.folds=5")
    for key in (key for key, asked in wanted.items() if asked):
        for setting, (given, remedy) in lacking.items():
            if given:
                raise UsageError(
                    f"{key}: needs the TSM's class probabilities, and with {setting} there are none; "
                    f"leave {key} off, or {remedy}"
                )


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

    raise_if_told()
    begun = run.path.exists()
    try:
        summary = (train_tsm if config.stage.name == "tsm" else train_vlm)(config, run)
    except Exception:
        if is_main() and not begun:
            run.withdraw()
        raise
    else:
        if is_main():
            run.finish(summary)
    finally:
        run.release()
    wait_for_everyone()
    say(f"{config.stage.name}: {_what_it_took(summary)}, {run.path}")


def _what_it_took(summary: Mapping[str, Any]) -> str:
    """Steps, seconds of training, and those of the whole stage; of a resumed run these are of its last part alone.

    Example:
        >>> _what_it_took({"steps": 1, "seconds": 4.2, "cost": {"seconds": 0.41}})
        '1 step, 0.4 s of training, 4.2 s in all'
    """
    steps, trained, whole = summary["steps"], summary["cost"]["seconds"], summary["seconds"]
    said = f"{steps} step{'s' * (steps != 1)}, {_seconds(trained)} of training"
    return f"{said}, {_seconds(whole)} in all" if whole >= trained else said


def _seconds(count: float) -> str:
    return f"{count:.{int(count < 10)}f} s"
