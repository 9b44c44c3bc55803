"""The VLM stages: vanilla tuning, exemplar prompting, contrastive response tuning; they differ by their terms alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelerate.utils import set_seed
from rich.console import Console
from rich.table import Table

from vitask.config.build import (
    build_accelerator,
    build_negatives,
    build_objective,
    build_optimizer,
    build_placement,
    build_scheduler,
    build_settings,
    build_shares,
    build_task,
    build_vlm,
)
from vitask.config.exemplars import build_exemplars, build_tsm_exemplars
from vitask.errors import UsageError
from vitask.runs.exemplars import image_set
from vitask.runs.features import prompts_and_features
from vitask.runs.folder import RunFolder, Stopwatch, say, stage_summary
from vitask.runs.identity import at_stage, needs_exemplar, needs_tsm, run_folder, term_weights
from vitask.runs.out_of_fold import teacher_logits
from vitask.runs.questions import asked_of_each, build_questions
from vitask.runs.tuned import describe, load_run_tsm, require_connector
from vitask.training.candidates import Candidates
from vitask.training.checkpoint import Checkpoints
from vitask.training.loop import Loop
from vitask.training.recorder import Recorder
from vitask.training.vitask_data import VITaskTrainingData
from vitask.training.vitask_task import VITask
from vitask.vlm.adapt import assert_trainable, trainable_groups
from vitask.vlm.families.check import check_family
from vitask.vlm.packed import why_not_packed
from vitask.vlm.saving import load_weights, save_vlm

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.vlm.model import ExemplarVLM


def train_vlm(config: Config, run: RunFolder) -> dict[str, Any]:
    """Train one VLM stage into a run folder and return the run's summary. Earlier stages must be there."""
    watch = Stopwatch()
    task = build_task(config.data, config.seed, config.cache)
    run.begin(config, task)
    accelerator = build_accelerator(config.launch, config.logger, run.path)
    questions = build_questions(config, task)
    description = describe(config, questions)
    shown = image_set(task, "train")
    tsm = load_run_tsm(run_folder(at_stage(config, "tsm")), task.labels) if needs_tsm(config) else None
    seen = build_tsm_exemplars(config, tsm, accelerator.device) if tsm else None
    logits = seen.logits(shown) if seen else None
    source = build_exemplars(config, seen) if needs_exemplar(config) else None
    placement = build_placement(config.exemplar, source.num_tokens) if source else None
    set_seed(config.seed)  # only here, so that adapters start alike whether a TSM was loaded or not
    vlm, prompter = build_vlm(config, source.feature_dim if source else None, placement)
    parts = prepare(vlm, config)
    responses = [prompter.response(answer.text) for answer in task.answers]
    objective = build_objective(config.objective, term_weights(config), responses)
    asked = asked_of_each(questions, shown.sets, logits)
    prompts, features = prompts_and_features(vlm, prompter, task, asked, config, accelerator)
    if vlm.family.notice:
        say(vlm.family.notice)
        check_family(vlm.eval(), prompter.prompt(prompts.images[0], asked[0]), prompter)
    data = VITaskTrainingData(
        task,
        prompts,
        responses,
        objective.branches,
        packed=choose_packed(config.step, vlm),
        placement=placement,
        exemplars=source(shown) if source else None,
        negatives=build_negatives(config.objective.crt, task, config.seed),
        candidates=Candidates(
            task, config.objective.closed_set.limit, config.seed, teacher_logits(config, task, logits)
        ),
        image_features=features,
    )
    loop = Loop(
        VITask(vlm, objective),
        data,
        build_optimizer(config.optim, vlm),
        build_scheduler(config.optim),
        build_settings(config, config.optim),
        accelerator,
        Checkpoints(run.checkpoints),
        shares=build_shares(config.optim.sampling, task),
        description=f"{config.stage.name} {task.name}",
    )
    if accelerator.is_main_process and loop.step == 0:
        print_parts(parts, vlm)
    recorder = Recorder(run.path, accelerator, resume_from=loop.step)
    loop.run(recorder)
    recorder.finish()
    if accelerator.is_main_process:
        save_vlm(vlm, run.model, description)
    accelerator.wait_for_everyone()
    return stage_summary(config, watch, loop.step, terms=objective.terms, trained=parts, cost=loop.cost.summary())


def prepare(vlm: ExemplarVLM, config: Config) -> dict[str, tuple[int, int]]:
    """Load the earlier stage's weights, freeze what the stage freezes, and check that exactly the rest trains."""
    train_connector = vlm.connector is not None and config.stage.train_connector
    if vlm.connector is not None and not train_connector and not config.stage.init_from:
        raise UsageError("stage.train_connector=false: then the connector must come from an earlier stage.init_from")
    if config.stage.init_from:
        earlier = RunFolder(run_folder(at_stage(config, config.stage.init_from))).model
        if vlm.connector is not None and not train_connector:
            require_connector(earlier)
        load_weights(vlm, earlier)
    if vlm.connector is not None:
        vlm.connector.requires_grad_(train_connector)
    assert_trainable(vlm, connector=train_connector, tower=config.vlm.train_tower, projector=config.vlm.train_projector)
    return trainable_groups(vlm)


def choose_packed(step: str, vlm: ExemplarVLM) -> bool:
    """Whether to train on packed batches; says so when the model cannot take them."""
    reason = why_not_packed(vlm.base) if step == "packed" else None
    if reason is not None:
        say(f"step=packed is not possible here, every branch takes a pass of its own: {reason}")
    return step == "packed" and reason is None


def print_parts(parts: dict[str, tuple[int, int]], vlm: ExemplarVLM) -> None:
    """Print what trains, part by part, beside what stays frozen."""
    table = Table(title="what trains")
    for column in ("part", "tensors", "parameters"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, (tensors, parameters) in parts.items():
        table.add_row(part, f"{tensors:,}", f"{parameters:,}")
    frozen = [p.numel() for p in vlm.parameters() if not p.requires_grad]
    table.add_row("frozen", f"{len(frozen):,}", f"{sum(frozen):,}", style="dim")
    Console().print(table)
