"""Stage `head`: LoRA and a linear head on the VLM's last hidden state, tuned on class labels without any answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelerate.utils import set_seed

from vitask.config.build import (
    build_accelerator,
    build_optimizer,
    build_scheduler,
    build_settings,
    build_shares,
    build_task,
    build_vlm,
)
from vitask.config.exemplars import build_tsm_exemplars
from vitask.runs.exemplars import image_set
from vitask.runs.features import prompts_and_features
from vitask.runs.folder import RunFolder, Stopwatch, say, stage_summary
from vitask.runs.identity import at_stage, is_head, needs_tsm, run_folder
from vitask.runs.questions import asked_of_each, build_questions
from vitask.runs.train_vlm import prepare, print_parts
from vitask.runs.tuned import describe, load_run_tsm
from vitask.training.checkpoint import Checkpoints
from vitask.training.head import HeadTask, HeadTrainingData
from vitask.training.loop import Loop
from vitask.training.recorder import Recorder
from vitask.training.tsm_task import joint_heads
from vitask.vlm.classifier import VLMClassifier
from vitask.vlm.families.check import check_family
from vitask.vlm.saving import load_head, save_vlm

if TYPE_CHECKING:
    from vitask.config.schema import Config


def train_head(config: Config, run: RunFolder) -> dict[str, Any]:
    """Train the head stage into a run folder and return the run's summary. Earlier stages must be there."""
    watch = Stopwatch()
    task = build_task(config.data, config.seed, config.cache)
    run.begin(config, task)
    accelerator = build_accelerator(config.launch, config.logger, run.path)
    questions, shown = build_questions(config, task), image_set(task, "train")
    tsm = load_run_tsm(run_folder(at_stage(config, "tsm")), task.labels) if needs_tsm(config) else None
    hints = build_tsm_exemplars(config, tsm, accelerator.device).logits(shown) if tsm else None
    asked = asked_of_each(questions, shown.sets, hints)
    set_seed(config.seed)  # as in the other VLM stages
    vlm, prompter = build_vlm(config, None, None)
    model = VLMClassifier(vlm, len(task.labels))
    parts = _prepare(model, config)
    prompts, features = prompts_and_features(vlm, prompter, task, asked, config, accelerator)
    if vlm.family.notice:
        say(vlm.family.notice)
        check_family(vlm.eval(), prompter.prompt(prompts.images[0], asked[0]), prompter)
    data = HeadTrainingData(task, prompts, features)
    loop = Loop(
        HeadTask(model, joint_heads(task, data.targets, data.members, balanced=False)),
        data,
        build_optimizer(config.optim, model),
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
        save_vlm(vlm, run.model, describe(config, questions), head=model.classifier)
    accelerator.wait_for_everyone()
    return stage_summary(config, watch, loop.step, trained=parts, cost=loop.cost.summary())


def _prepare(model: VLMClassifier, config: Config) -> dict[str, tuple[int, int]]:
    """Load the earlier stage's adapter, and its head if it has one; say what trains."""
    parts = prepare(model.vlm, config)
    earlier = at_stage(config, config.stage.init_from) if config.stage.init_from else None
    if earlier and is_head(earlier):
        load_head(model.classifier, RunFolder(run_folder(earlier)).model)
    tensors = list(model.classifier.parameters())
    return {**parts, "linear head": (len(tensors), sum(tensor.numel() for tensor in tensors))}
