"""`vitask doctor`: a run is examined before it starts, on one batch, with the objects that training builds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.config.accelerator import build_accelerator
from vitask.config.build import build_shares, build_task, build_tsm
from vitask.data import members_of, mix
from vitask.errors import UsageError, VitaskError
from vitask.runs.assembly import Earlier, assemble
from vitask.runs.doctor_machine import Needs, device_finding, disk_findings, package_findings
from vitask.runs.doctor_model import exemplar_finding, gradient_finding, image_finding, token_sequence
from vitask.runs.doctor_step import measure, needs_of, step_finding
from vitask.runs.exemplars import image_set
from vitask.runs.findings import Finding, note, ok, wrong
from vitask.runs.folder import RunFolder
from vitask.runs.identity import is_head, needs_exemplar, needs_tsm, run_folder
from vitask.runs.open_ended import left_out_by_crt
from vitask.runs.train import planned_stages, prerequisites
from vitask.runs.train_tsm import assemble_tsm
from vitask.runs.tuned import load_run_tsm

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.tsm import TSM

FEWEST = 8
"""Images to examine, at least: enough for another image with another answer."""


@dataclass
class Diagnosis:
    """What `examine` found.

    Attributes:
        findings: in the order in which they were made.
        sequences: by stage, one sample's tokens as pieces: `prompt`, `exemplar` or `response`, and the text.
    """

    findings: list[Finding] = field(default_factory=list)
    sequences: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    @property
    def wrong(self) -> list[Finding]:
        """The findings that will stop the run, or make it worthless."""
        return [finding for finding in self.findings if finding.state == "wrong"]


def examine(config: Config) -> Diagnosis:
    """Look at everything that a run needs; nothing is written but converted images in the cache.

    Raises:
        UsageError: the configuration contradicts itself, or does not fit the data.

    Example:
        >>> examine(compose_config("train", ["stage=ep"])).wrong
        []
    """
    stages = planned_stages(config)
    diagnosis = Diagnosis([ok("configuration", f"stages {', '.join(stage.stage.name for stage in stages)}")])
    found = diagnosis.findings
    found += [*package_findings(config.logger.tracker), device_finding(config.launch)]
    found += _earlier_findings(config, stages)
    needs = Needs()
    try:
        task = build_task(config.data, config.seed, config.cache)
        found += _data_findings(config, stages, task)
        for stage in stages:
            needs += _examine_stage(stage, task, diagnosis)
    except UsageError:
        raise
    except VitaskError as error:
        found.append(wrong("run", str(error)))
    found += disk_findings(config.out, config.cache, needs)
    return diagnosis


def _data_findings(config: Config, stages: list[Config], task: TaskData) -> Iterator[Finding]:
    counts = {split: len(rows) for split, rows in task.splits.items()}
    if not counts["train"]:
        raise UsageError(f"{task.name} has no training images (data.fractions, data.splits); it can only be evaluated")
    shown = ", ".join(f"{count} {split}" for split, count in counts.items())
    what = "questions" if task.open_ended else "images"
    yield ok("data", f"{task.name}: {shown} {what}, {len(task.answers)} answers")
    yield from (note("data", f"{title}: {text}") for title, text in task.notes.items())
    if config.exemplar.table is not None and any(map(needs_exemplar, stages)):
        from vitask.config.exemplars import build_exemplars

        build_exemplars(config, None)(image_set(task, "train"))
        yield ok("exemplar table", f"{config.exemplar.table}: has a vector of every training image")


def _earlier_findings(config: Config, stages: list[Config]) -> Iterator[Finding]:
    """Say of every stage whether it is finished, and whether what it starts from is there."""
    planned = {run_folder(stage) for stage in stages}
    for stage in stages:
        run = RunFolder(run_folder(stage))
        if run.finished and not config.overwrite:
            text = f"{run.path} is finished"
            refused = "; vitask train will refuse it: add overwrite=true, or tag=... to keep both"
            yield wrong("run folder", text + refused) if len(stages) == 1 else note("run folder", text + ", and stays")
        for earlier in prerequisites(stage):
            path, name = run_folder(earlier), earlier.stage.name
            if RunFolder(path).finished:
                yield ok("earlier stage", f"{stage.stage.name} starts from {path}")
            elif path not in planned and config.prerequisites == "require":
                yield wrong("earlier stage", f"{stage.stage.name} starts from {path}, which is not finished: run "
                            f"stage={name} first, or leave prerequisites=train")  # fmt: skip
            else:
                yield note("earlier stage", f"{name} is not trained yet and will be trained before {stage.stage.name}; "
                           "here fresh random weights of its shape stand in for it")  # fmt: skip


def _examine_stage(config: Config, task: TaskData, diagnosis: Diagnosis) -> Needs:
    """Let one batch go through a stage, and return what the stage will need."""
    found, stage = diagnosis.findings, config.stage.name
    if stage == "tsm" and config.tsm.tune == "none":
        found.append(note("tsm", "tsm.tune=none: the encoder is kept as it comes, nothing trains"))
        return Needs()
    optim = config.tsm.optim if stage == "tsm" else config.optim
    if stage != "tsm" and (left_out := left_out_by_crt(config, task)):
        found.append(note("crt", left_out))
    few = _few_images(task, max(FEWEST, min(optim.micro_batch_size or optim.batch_size, optim.batch_size)))
    with tempfile.TemporaryDirectory(prefix="vitask-doctor-") as folder:
        accelerator = build_accelerator(config.launch, replace(config.logger, tracker="none"), Path(folder))
        apart = _apart(config, folder)
        if stage == "tsm":
            tsm = build_tsm(config.tsm, len(task.labels))
            trained, data = assemble_tsm(apart, few, tsm.to(accelerator.device))
            step = measure(trained, data, optim, accelerator)
        else:
            assembly = assemble(apart, few, accelerator, _earlier_or_random(config, few))
            trained = assembly.task
            trained.to(accelerator.device)
            diagnosis.sequences[stage] = token_sequence(assembly, few)
            found.append(image_finding(assembly, few, accelerator))
            if assembly.source is not None:
                found.append(exemplar_finding(assembly, few, accelerator))
            step = measure(trained, assembly.data, optim, accelerator)
    found.append(gradient_finding(stage, trained))
    steps = build_shares(optim.sampling, task).steps_per_epoch(optim.batch_size) * optim.epochs
    found.append(step_finding(stage, step, optim, steps))
    source = None if stage == "tsm" or is_head(config) else assembly.source
    return needs_of(step, len(task.splits["train"]), source, config.vlm.feature_cache_gb if stage != "tsm" else 0.0)


def _apart(config: Config, folder: str) -> Config:
    """The same run, with a cache of its own, and the TSM's own word where that out of fold belongs to all images."""
    closed_set = replace(config.objective.closed_set, teacher="in_sample")
    return replace(config, cache=folder, objective=replace(config.objective, closed_set=closed_set))


def _earlier_or_random(config: Config, task: TaskData) -> Earlier:
    """What a stage starts from where that is finished; else a TSM of the same shape, and a VLM that is not tuned."""
    runs = {earlier.stage.name: RunFolder(run_folder(earlier)) for earlier in prerequisites(config)}
    start = runs.get(config.stage.init_from or "")
    tsm = None
    if needs_tsm(config):
        trained = runs["tsm"]
        tsm = load_run_tsm(trained.path, task.labels) if trained.finished else _random_tsm(config, task)
    return Earlier(tsm, start.model if start and start.finished else None)


def _random_tsm(config: Config, task: TaskData) -> TSM:
    fresh = replace(config.tsm, pretrained=False, checkpoint=None)
    return build_tsm(fresh, len(task.labels)).freeze()


def _few_images(task: TaskData, count: int) -> TaskData:
    """The same task with few training images, from all over its split."""
    if task.members:
        each = max(2, -(-count // len(task.members)))
        return mix(task.name, [_few_images(member, each) for member in members_of(task)])
    rows, count = task.splits["train"], min(count, len(task.splits["train"]))
    chosen = [number * len(rows) // count for number in range(count)]
    return replace(task, splits={**task.splits, "train": rows.select(chosen)})
