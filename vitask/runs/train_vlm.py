"""The VLM stages: vanilla tuning, exemplar prompting, contrastive response tuning, and the linear head beside them.

They differ by what is assembled for the loop, and by nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vitask.config.accelerator import build_accelerator, start_trackers
from vitask.config.build import build_optimizer, build_scheduler, build_settings, build_shares, build_task
from vitask.runs.assembly import assemble, earlier_stages, starting_weights
from vitask.runs.folder import RunFolder, Stopwatch, say, stage_summary
from vitask.runs.identity import is_head
from vitask.runs.open_ended import left_out_by_crt
from vitask.runs.tuned import describe
from vitask.training.checkpoint import Checkpoints
from vitask.training.loop import Loop
from vitask.training.ranks import gather_parameters, layer_classes
from vitask.training.recorder import Recorder
from vitask.vlm.adapt import tower_parameters
from vitask.vlm.saving import save_vlm

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.vlm.model import ExemplarVLM


def train_vlm(config: Config, run: RunFolder) -> dict[str, Any]:
    """Train one VLM stage into a run folder and return the run's summary. Earlier stages must be there."""
    watch = Stopwatch()
    task = build_task(config.data, config.seed, config.cache)
    if left_out := left_out_by_crt(config, task):
        say(f"crt: {left_out}")
    run.begin(config, task)
    accelerator = build_accelerator(config.launch, config.logger, run.path)
    earlier = earlier_stages(config, task)
    assembly = assemble(config, task, accelerator, earlier)
    run.require_same_start(starting_weights(assembly.vlm, earlier))
    rates = dict.fromkeys(tower_parameters(assembly.vlm), config.vlm.tower_lr_ratio * config.optim.lr)
    loop = Loop(
        assembly.task,
        assembly.data,
        build_optimizer(config.optim, assembly.task, rates),
        build_scheduler(config.optim),
        build_settings(config, config.optim),
        accelerator,
        Checkpoints(run.checkpoints),
        shares=build_shares(config.optim.sampling, task),
        layers=layer_classes(assembly.vlm.decoder) if config.launch.shard else (),
        description=f"{config.stage.name} {task.name}",
    )
    if accelerator.is_main_process and loop.step == 0:
        print_parts(assembly.parts, assembly.vlm)
    start_trackers(accelerator, config.logger, run.path, run_id=run.id, step=loop.step)
    recorder = Recorder(run.path, accelerator, resume_from=loop.step)
    loop.run(recorder)
    recorder.finish()
    if assembly.vlm.connector is not None:
        gather_parameters(assembly.vlm.connector, frozen=True)  # saved in stage 2 as well, where it is frozen
    if accelerator.is_main_process:
        head = assembly.task.model.classifier if is_head(config) else None
        about = describe(config, assembly.questions, earlier.tsm, assembly.vlm.base_digest)
        save_vlm(assembly.vlm, run.model, about, head=head)
    accelerator.wait_for_everyone()
    terms = {} if is_head(config) else {"terms": assembly.task.objective.terms}
    found = {"trained": assembly.parts, "cost": loop.cost.summary(), "warnings": loop.alerts.raised}
    return stage_summary(config, watch, loop.step, **terms, **found)


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
