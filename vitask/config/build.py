"""The only place that turns configuration into objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from vitask.config import schema
from vitask.config.compose import checked
from vitask.config.sources import load_source
from vitask.config.tuning import choose_trainable, load_base, original_weights
from vitask.data import (
    BatchNegatives,
    DatasetNegatives,
    Hint,
    Instruction,
    InstructionNegatives,
    NegativeRule,
    Shift,
    TaskData,
    instruction_ids,
    member_of_answer,
    members_of,
    mix,
    with_imbalance,
    with_label_noise,
    with_shift,
    with_train_fraction,
)
from vitask.errors import UsageError

if TYPE_CHECKING:
    from timm.data import Mixup
    from timm.utils import ModelEmaV3
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from vitask.training.loop import LoopSettings
    from vitask.training.objective import Objective
    from vitask.training.shares import Shares
    from vitask.tsm import TSM
    from vitask.vlm.inputs import Placement
    from vitask.vlm.model import ExemplarVLM


def build_task(data: schema.DataConfig, seed: int, cache: str) -> TaskData:
    """Load the data set, shift its images as configured, and put the configured conditions on its training split.

    Raises:
        UsageError: a value does not fit the source.
        VitaskError: the data is missing or broken.
    """
    if data.source == "mixture":
        members = [build_task(member, seed, cache) for member in member_configs(data)]
        names = list(data.members or {})
        return mix(data.name or "mixture", [replace(m, name=name) for m, name in zip(members, names, strict=True)])
    task = with_shift(load_source(data, cache), Shift(**asdict(data.shift)))
    task = with_train_fraction(task, data.train_fraction, seed)
    if data.imbalance != 1:  # a multi-label task refuses to be asked
        task = with_imbalance(task, data.imbalance, seed)
    return with_label_noise(task, data.label_noise, seed)


def member_configs(data: schema.DataConfig) -> list[schema.DataConfig]:
    """Return the configuration of each data set of a mixture: the mixture's own values, overridden by the member's."""
    for name, member in (data.members or {}).items():
        if not isinstance(member, dict):
            raise UsageError(f"data.members.{name}: expected values such as {{source: digits}}, got {member!r}")
        if member.get("source") == "mixture":
            raise UsageError(f"data.members.{name}: a mixture cannot be part of a mixture; name its data sets here")
    shared = {**{k: v for k, v in asdict(data).items() if k not in ("source", "name")}, "members": None}
    found = []
    for name, member in (data.members or {}).items():
        try:
            found.append(checked(schema.DataConfig, OmegaConf.merge(shared, {"name": name}, member)))
        except UsageError as error:
            raise UsageError(f"data.members.{name}.{error}") from error
    return found


def data_configs(data: schema.DataConfig) -> list[schema.DataConfig]:
    """Return the configuration of each data set of a task, in order."""
    return member_configs(data) if data.source == "mixture" else [data]


def build_instructions(data: schema.DataConfig, task: TaskData) -> list[str]:
    """Render the instruction of each data set of a task; a modality of the config goes before the source's own.

    That of an open-ended task is the one that all its training rows ask, or empty if they ask several.
    """
    rendered = []
    if task.open_ended:
        return [_one_instruction(task)]
    for config, template, member in zip(data_configs(data), build_templates(data), members_of(task), strict=True):
        rendered.append(template.render(replace(member, modality=config.modality or member.modality)))
    return rendered


def build_templates(data: schema.DataConfig) -> list[Instruction]:
    """Say for each data set how its instruction is written; a template that cannot be filled is a `UsageError`."""
    asked = [config.instruction for config in data_configs(data)]
    return [Instruction(each.template, each.incomplete_template, each.complete) for each in asked]


def _one_instruction(task: TaskData) -> str:
    asked = set(task.splits["train"]["instruction"])
    return asked.pop() if len(asked) == 1 else ""


def build_hints(data: schema.DataConfig) -> list[Hint | None]:
    """Say for each data set how the TSM's prediction is written into its instruction, if it is."""
    return [
        Hint(config.instruction.hint_template, config.separator, config.no_finding) if config.instruction.hint else None
        for config in data_configs(data)
    ]


def build_tsm(config: schema.TSMConfig, classes: int) -> TSM:
    """Build the task-specific model, with fresh or pre-trained weights, and freeze what `tune` leaves as it is."""
    from vitask.tsm import TSM

    tsm = TSM(
        config.name,
        0 if config.tune == "none" else classes,
        pretrained=config.pretrained,
        model_args=config.model_args,
        checkpoint=config.checkpoint,
        data_config=config.input,
    )
    if config.tune == "all":
        return tsm
    return tsm.freeze_encoder() if config.tune == "head" else tsm.freeze()


def build_mixing(config: schema.TSMConfig) -> Mixup | None:
    """Build what mixes two images and their labels, timm's mixup, cutmix or either at even odds; None for neither."""
    from timm.data import Mixup

    if not config.mixup and not config.cutmix:
        return None
    return Mixup(config.mixup, config.cutmix, label_smoothing=0.0, num_classes=2)


def build_average(config: schema.TSMConfig, tsm: TSM) -> ModelEmaV3 | None:
    """Build the exponential moving average of a TSM's weights, on its device; None where there is none.

    The decay grows to `ema` as timm lets it, from a plain mean at the start: 0.99 after a thousand steps.
    """
    from timm.utils import ModelEmaV3

    return None if config.ema is None else ModelEmaV3(tsm, config.ema, use_warmup=True)


def build_placement(config: schema.ExemplarConfig, tokens: int) -> Placement:
    """Place the exemplar: its position from the config, its number of tokens from what gives it."""
    from vitask.vlm.inputs import Placement

    return Placement(config.position, tokens)


def build_vlm(
    config: schema.Config, exemplar_dim: int | None, placement: Placement | None, *, dequantize: bool = False
) -> tuple[ExemplarVLM, Any]:
    """Load the VLM, adapt it, and give it a connector if it is to see exemplars.

    Args:
        config: the run.
        exemplar_dim: width of the TSM's features; `None` for a VLM without exemplars.
        placement: where they go; `None` likewise.
        dequantize: of a run with `lora.quantize`, build plain layers that hold the same values.

    Returns:
        The wrapper and a `Prompter`.
    """
    from vitask.vlm.adapt import checkpoint_activations
    from vitask.vlm.connector import Connector
    from vitask.vlm.families import family_for
    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompter
    from vitask.vlm.saving import base_digest

    vlm = config.vlm
    model, processor = load_base(config, dequantize=dequantize)
    digest = base_digest(model) if config.lora.quantize == "none" else None
    family = family_for(model)
    width = model.get_input_embeddings().embedding_dim
    tuned = choose_trainable(config, model, family)
    if vlm.gradient_checkpointing:
        checkpoint_activations(model, family)
    connector = Connector(exemplar_dim, width, config.connector.kind) if exemplar_dim is not None else None
    prompter = Prompter(processor, family, model.config, vlm.image_options)
    return ExemplarVLM(tuned, family, connector, placement, original_weights(config, family), digest), prompter


def build_objective(
    config: schema.ObjectiveConfig, weights: dict[str, float], label_tokens: Sequence[Sequence[int]]
) -> Objective:
    """Build the objective of a stage from its term weights and the closed set of responses."""
    from vitask.training.objective import Objective

    try:
        return Objective(
            weights,
            rda_teacher=config.rda.teacher,
            smoothing=config.rda.smoothing,
            rda_mask=config.rda.mask,
            temperature=config.rda.temperature,
            direction=config.rda.direction,
            detach_teacher=config.rda.detach_teacher,
            ramps={"rda": config.rda.ramp, "crt": config.crt.ramp},
            crt_tokens=config.crt.tokens,
            label_tokens=tuple(map(tuple, label_tokens)),
            reduction=config.reduction,
            closed_set_temperature=config.closed_set.temperature,
            teacher_temperature=config.closed_set.teacher_temperature,
        )
    except ValueError as error:
        raise UsageError(f"objective: {error}") from error


def build_negatives(
    config: schema.CRTConfig, task: TaskData, seed: int, split: str = "train"
) -> BatchNegatives | DatasetNegatives | InstructionNegatives:
    """Say how CRT's negative images are drawn."""
    if task.open_ended:
        rows = task.splits[split]
        responses = [task.answers[answer].text for answer in rows["answer"]]
        rule = NegativeRule(responses, rows["picture"], config.max_overlap)
        if config.negatives == "batch":
            return BatchNegatives(seed, group=config.group, rule=rule)
        return InstructionNegatives(rule, instruction_ids(task, split), seed)
    disjoint = [answer.labels for answer in task.answers] if config.disjoint else None
    if config.negatives == "batch":
        return BatchNegatives(seed, disjoint, config.group)
    answers = task.splits["train"]["answer"][:]
    member_of = member_of_answer(task)
    return DatasetNegatives(answers, [member_of[answer] for answer in answers], seed, disjoint)


def build_optimizer(
    config: schema.OptimConfig, module: nn.Module, rates: Mapping[nn.Parameter, float] | None = None
) -> Optimizer:
    """Build timm's optimiser of that name; the connector, or a classifier on the VLM, gets its own rate.

    Norms and biases get no weight decay. `rates` are the learning rates of single parameters.
    """
    from timm.optim import create_optimizer_v2

    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            fresh = any(part in f".{name}" for part in (".connector.", ".classifier."))
            rate = config.connector_lr if fresh and config.connector_lr is not None else config.lr
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault(((rates or {}).get(parameter, rate), decay), []).append(parameter)
    try:
        return create_optimizer_v2(
            [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()],
            opt=config.name,
            lr=config.lr,
            weight_decay=config.weight_decay,
        )
    except (ValueError, AssertionError, KeyError) as error:
        raise UsageError(f"optim.name: timm has no optimiser '{config.name}': {error}") from error


def build_scheduler(config: schema.OptimConfig) -> Callable[[Optimizer, int], LRScheduler]:
    """Return what builds the learning-rate schedule, once the number of steps is known."""
    from transformers import get_scheduler

    return lambda optimizer, steps: get_scheduler(
        config.schedule, optimizer, num_warmup_steps=round(config.warmup * steps), num_training_steps=steps
    )


def build_shares(config: schema.SamplingConfig, task: TaskData) -> Shares:
    """Say which samples an epoch of the training split holds."""
    from vitask.training.shares import Shares

    answers, member_of = task.splits["train"]["answer"][:], member_of_answer(task)
    return Shares(
        sets=[member_of[answer] for answer in answers],
        classes=answers,
        set_power=config.sets,
        class_power=config.classes,
        one_set_a_step=config.one_set_a_step,
    )


def build_settings(config: schema.Config, optim: schema.OptimConfig) -> LoopSettings:
    """Collect how long and in which portions the loop trains."""
    from vitask.training.loop import LoopSettings

    return LoopSettings(
        epochs=optim.epochs,
        batch_size=optim.batch_size,
        micro_batch_size=optim.micro_batch_size,
        clip=optim.clip,
        workers=config.launch.workers,
        log_every=config.logger.every,
        save_every=config.launch.save_every,
        save_minutes=config.launch.save_minutes,
        seed=config.seed,
    )
