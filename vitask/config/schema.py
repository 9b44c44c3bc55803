"""Every option with its type, its range and what it means. Defaults live in the YAML files under `configs/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from vitask.config.data_schema import DataConfig
from vitask.config.launch_schema import LaunchConfig
from vitask.config.options import folder_word, one_of, within

# OmegaConf reads these annotations at run time, on Python 3.10 too: Optional[X], not X | None.


@dataclass
class SamplingConfig:
    """Which samples an epoch holds."""

    sets: float = within(0, 1)
    classes: float = within(0, 1)
    one_set_a_step: bool = MISSING


@dataclass
class OptimConfig:
    """How long and how fast to train."""

    name: str = MISSING
    lr: float = within(0)
    connector_lr: Optional[float] = within(0)  # noqa: UP045
    weight_decay: float = within(0)
    schedule: str = one_of("cosine", "linear", "constant", "constant_with_warmup")
    warmup: float = within(0, 1)
    clip: float = within(0)
    epochs: int = within(1)
    batch_size: int = within(1)
    micro_batch_size: Optional[int] = within(1)  # noqa: UP045
    sampling: SamplingConfig = MISSING


@dataclass
class TSMConfig:
    """The task-specific model."""

    tune: str = one_of("all", "head", "none")
    name: str = MISSING
    pretrained: bool = MISSING
    checkpoint: Optional[str] = MISSING  # noqa: UP045
    model_args: dict[str, Any] = MISSING
    input: dict[str, Any] = MISSING
    augment: Optional[dict[str, Any]] = MISSING  # noqa: UP045
    mixup: float = within(0)
    cutmix: float = within(0)
    label_smoothing: float = within(0, 1)
    balanced: bool = MISSING
    ema: Optional[float] = within(0, 1)  # noqa: UP045
    folds: Optional[int] = within(2)  # noqa: UP045
    optim: OptimConfig = MISSING


@dataclass
class VLMConfig:
    """The vision language model. Options with a default here are younger than runs that are to stay readable."""

    path: str = MISSING
    revision: Optional[str] = MISSING  # noqa: UP045
    dtype: str = one_of("float32", "bfloat16", "float16", "auto")
    attention: str = one_of("sdpa", "eager", "flash_attention_2")
    trust_remote_code: bool = MISSING
    image_options: dict[str, Any] = MISSING
    train_tower: bool = MISSING
    train_projector: bool = MISSING
    gradient_checkpointing: bool = MISSING
    feature_cache_gb: float = within(0)
    tower_lr_ratio: float = within(0, default=1.0)


@dataclass
class ExemplarConfig:
    """What of the TSM the VLM sees, and where."""

    features: str = one_of("cls", "patches")
    table: Optional[str] = MISSING  # noqa: UP045
    content: str = one_of("image", "shuffled", "constant")
    position: str = one_of("after_image", "before_assistant", "replace_image")


@dataclass
class ConnectorConfig:
    """What maps exemplars to the LLM's width."""

    kind: str = one_of("mlp", "linear")


@dataclass
class LoraConfig:
    """How the language model is tuned. Options with a default here are younger than runs that are to stay readable."""

    rank: int = within(1)
    alpha: float = within(0)
    dropout: float = within(0, 1)
    targets: Optional[list[str]] = MISSING  # noqa: UP045
    tune: str = field(default="adapter", metadata={"choices": ("adapter", "all")})
    dora: bool = False
    rslora: bool = False
    quantize: str = field(default="none", metadata={"choices": ("none", "nf4")})


@dataclass
class RDAConfig:
    """Options of response distribution alignment."""

    teacher: str = one_of("exemplar", "labels")
    smoothing: float = within(1e-6, 1)
    mask: str = one_of("none", "teacher_right")
    temperature: float = within(1e-6)
    direction: str = one_of("student_first", "teacher_first")
    detach_teacher: bool = MISSING
    ramp: float = within(0, 1)


@dataclass
class CRTConfig:
    """Options of contrastive response tuning."""

    tokens: str = one_of("all", "branching")
    negatives: str = one_of("dataset", "batch")
    group: Optional[int] = within(2)  # noqa: UP045
    disjoint: bool = MISSING
    max_overlap: Optional[float] = within(0, 1, default=None)  # noqa: UP045
    ramp: float = within(0, 1)


@dataclass
class ClosedSetConfig:
    """Options of closed-set ranking, alignment and image ranking."""

    temperature: float = within(1e-6)
    teacher: str = one_of("in_sample", "out_of_fold")
    teacher_temperature: float = within(1e-6)
    limit: Optional[int] = within(2)  # noqa: UP045


@dataclass
class ObjectiveConfig:
    """Weights and options of the loss terms."""

    vanilla: float = within(0)
    ep: float = within(0)
    alpha: float = within(0)
    beta: float = within(0)
    ranking: float = within(0)
    csa: float = within(0)
    image_ranking: float = within(0)
    reduction: str = one_of("token", "sequence")
    rda: RDAConfig = MISSING
    crt: CRTConfig = MISSING
    closed_set: ClosedSetConfig = MISSING


@dataclass
class StageConfig:
    """What one run trains, and from where."""

    name: str = MISSING
    terms: list[str] = field(
        default=MISSING, metadata={"choices": ("vanilla", "ep", "rda", "crt", "ranking", "csa", "image_ranking")}
    )
    init_from: Optional[str] = MISSING  # noqa: UP045
    train_connector: bool = MISSING
    pipeline: list[str] = MISSING


@dataclass
class LoggerConfig:
    """What to log, and to whom."""

    tracker: str = one_of("none", "wandb", "tensorboard")
    project: str = MISSING
    mode: str = one_of("offline", "online")
    every: int = within(1)


@dataclass
class Config:
    """One training run."""

    seed: int = within(0, 2**32 - 1)
    out: str = MISSING
    cache: str = MISSING
    tag: Optional[str] = folder_word()  # noqa: UP045
    overwrite: bool = MISSING
    prerequisites: str = one_of("train", "require")
    step: str = one_of("packed", "plain")
    data: DataConfig = MISSING
    tsm: TSMConfig = MISSING
    vlm: VLMConfig = MISSING
    exemplar: ExemplarConfig = MISSING
    connector: ConnectorConfig = MISSING
    lora: LoraConfig = MISSING
    optim: OptimConfig = MISSING
    launch: LaunchConfig = MISSING
    logger: LoggerConfig = MISSING
    objective: ObjectiveConfig = MISSING
    stage: StageConfig = MISSING


@dataclass
class EvaluateConfig:
    """One evaluation of a finished run."""

    run: str = MISSING
    base: Optional[str] = None  # noqa: UP045
    split: str = one_of("train", "val", "test")
    exemplar: str = one_of("on", "off", "both")
    data: Optional[str] = MISSING  # noqa: UP045
    tsm: Optional[str] = MISSING  # noqa: UP045
    exemplar_table: Optional[str] = MISSING  # noqa: UP045
    exemplar_content: Optional[str] = one_of("image", "shuffled", "constant")  # noqa: UP045
    other_data: Optional[DataConfig] = None  # noqa: UP045
    tuned: bool = MISSING
    ranking: bool = MISSING
    contrast: float = within(0)
    probe: Optional[str] = MISSING  # noqa: UP045
    generate: bool = MISSING
    rivals: int = within(1, default=15)
    batch_size: int = within(1)
    device: str = one_of("auto", "cpu")
    overwrite: bool = MISSING


@dataclass
class PredictConfig:
    """Answers for single images."""

    run: str = MISSING
    base: Optional[str] = None  # noqa: UP045
    exemplar: str = one_of("on", "off")
    exemplar_table: Optional[str] = MISSING  # noqa: UP045
    set: Optional[str] = MISSING  # noqa: UP045
    instruction: Optional[str] = None  # noqa: UP045
    batch_size: int = within(1)
    device: str = one_of("auto", "cpu")


@dataclass
class DemoUIConfig:
    """A page to try a finished run."""

    run: str = MISSING
    base: Optional[str] = None  # noqa: UP045
    examples: int = within(0, 64)
    host: str = MISSING
    port: Optional[int] = within(1, 65535)  # noqa: UP045
    device: str = one_of("auto", "cpu")


@dataclass
class ExportConfig:
    """One export of a finished run."""

    run: str = MISSING
    base: Optional[str] = None  # noqa: UP045
    to: str = one_of("adapter", "merged", "bundle")
    out: Optional[str] = MISSING  # noqa: UP045
    samples: int = within(1)
    push: Optional[str] = MISSING  # noqa: UP045
    private: bool = MISSING
    device: str = one_of("auto", "cpu")
    overwrite: bool = MISSING


@dataclass
class ReportConfig:
    """One report over runs and grids."""

    out: str = MISSING
    examples: int = within(0)


@dataclass
class CompareConfig:
    """One comparison of finished runs."""

    split: str = one_of("train", "val", "test")
    exemplar: str = one_of("on", "off")
    batch_size: int = within(1)
    device: str = one_of("auto", "cpu")


@dataclass
class BenchConfig:
    """One measurement of what a step costs."""

    size: str = one_of("tiny", "small", "internvl2_2b")
    device: str = one_of("auto", "cpu", "cuda", "meta")
    dtype: str = one_of("auto", "float32", "bfloat16")
    batch_size: int = within(1)
    repeats: int = within(1)
    warmup: int = within(0)
    seed: int = within(0, 2**32 - 1)
    out: str = MISSING


@dataclass
class EvaluationSpec:
    """One evaluation of a grid's runs."""

    on: list[str] = field(default_factory=list)
    plug: bool = False
    options: list[str] = field(default_factory=list)
    rows: Optional[list[str]] = None  # noqa: UP045


@dataclass
class EffectSpec:
    """A difference that a grid shows, or does not."""

    of: list[str] = MISSING
    over: list[str] = MISSING
    metric: str = MISSING
    expected: str = one_of("up", "down", "none")


@dataclass
class AblationConfig:
    """A grid of runs: rows times seeds, each run evaluated in one or several ways."""

    title: str = MISSING
    conditions: str = MISSING
    references: list[str] = MISSING
    base: list[str] = MISSING
    embedded: dict[str, list[str]] = MISSING
    rows: dict[str, list[str]] = MISSING
    evaluations: dict[str, EvaluationSpec] = MISSING
    effects: dict[str, EffectSpec] = MISSING
    columns: dict[str, str] = MISSING
    layout: str = one_of("rows", "sets", "evaluations")
    figure: str = one_of("none", "bars", "radar", "densities")
    shown: dict[str, list[str]] = MISSING
    paper: Optional[str] = MISSING  # noqa: UP045
    seeds: list[int] = within(0, 2**32 - 1)  # noqa: RUF009  a field of the dataclass
    split: str = one_of("train", "val", "test")
    generate: bool = MISSING
    workers: int = within(1)
