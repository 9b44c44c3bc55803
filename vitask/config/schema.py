"""Every option with its type, its range and what it means. Defaults live in the YAML files under `configs/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

# OmegaConf reads these annotations at run time, on Python 3.10 too: Optional[X], not X | None.


def one_of(*choices: str) -> Any:
    """Declare a text option with a fixed set of values."""
    return field(default=MISSING, metadata={"choices": choices})


def within(low: float, high: float | None = None) -> Any:
    """Declare a number option with a range, ends included."""
    return field(default=MISSING, metadata={"range": (low, high)})


def folder_word() -> Any:
    """Declare a text option that becomes part of a folder's name."""
    return field(default=MISSING, metadata={"pattern": r"\w[\w. -]*"})


@dataclass
class InstructionConfig:
    """What the VLM is asked."""

    template: str = MISSING
    incomplete_template: str = MISSING
    complete: bool = MISSING


@dataclass
class ColumnsConfig:
    """Which column of a table holds what."""

    image: Optional[str] = MISSING  # noqa: UP045
    label: Optional[str] = MISSING  # noqa: UP045
    split: Optional[str] = MISSING  # noqa: UP045
    group: Optional[str] = MISSING  # noqa: UP045
    id: Optional[str] = MISSING  # noqa: UP045
    label_separator: Optional[str] = MISSING  # noqa: UP045


@dataclass
class DataConfig:
    """Which task, under which conditions."""

    source: str = one_of(
        "digits", "medmnist", "image_folder", "table", "hub", "ham10000", "aptos2019", "idrid", "messidor", "mixture"
    )
    name: Optional[str] = folder_word()  # noqa: UP045
    root: Optional[str] = MISSING  # noqa: UP045
    path: Optional[str] = MISSING  # noqa: UP045
    subset: Optional[str] = MISSING  # noqa: UP045
    revision: Optional[str] = MISSING  # noqa: UP045
    size: Optional[int] = within(1)  # noqa: UP045
    modality: Optional[str] = MISSING  # noqa: UP045
    label_texts: Any = MISSING
    label_file: Optional[str] = MISSING  # noqa: UP045
    raw_labels: bool = MISSING
    ordinal: Optional[bool] = MISSING  # noqa: UP045
    separator: str = MISSING
    no_finding: str = MISSING
    download: bool = MISSING
    columns: ColumnsConfig = MISSING
    splits: dict[str, Any] = MISSING
    fractions: list[float] = MISSING
    split_seed: int = within(0)
    corrupt: str = one_of("fail", "skip")
    allow_missing: bool = MISSING
    label_noise: float = within(0, 0.99)
    imbalance: float = within(0, 1)
    train_fraction: float = within(0, 1)
    members: Optional[dict[str, Any]] = MISSING  # noqa: UP045
    instruction: InstructionConfig = MISSING


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

    name: str = MISSING
    pretrained: bool = MISSING
    checkpoint: Optional[str] = MISSING  # noqa: UP045
    model_args: dict[str, Any] = MISSING
    input: dict[str, Any] = MISSING
    augment: Optional[dict[str, Any]] = MISSING  # noqa: UP045
    label_smoothing: float = within(0, 1)
    balanced: bool = MISSING
    optim: OptimConfig = MISSING


@dataclass
class VLMConfig:
    """The vision language model."""

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


@dataclass
class ExemplarConfig:
    """What of the TSM the VLM sees, and where."""

    features: str = one_of("cls", "patches")
    position: str = one_of("after_image", "before_assistant", "replace_image")


@dataclass
class ConnectorConfig:
    """What maps exemplars to the LLM's width."""

    kind: str = one_of("mlp", "linear")


@dataclass
class LoraConfig:
    """The adapter of the language model."""

    rank: int = within(1)
    alpha: float = within(0)
    dropout: float = within(0, 1)
    targets: Optional[list[str]] = MISSING  # noqa: UP045


@dataclass
class RDAConfig:
    """Options of response distribution alignment."""

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


@dataclass
class ClosedSetConfig:
    """Options of closed-set ranking and alignment."""

    temperature: float = within(1e-6)
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
    reduction: str = one_of("token", "sequence")
    rda: RDAConfig = MISSING
    crt: CRTConfig = MISSING
    closed_set: ClosedSetConfig = MISSING


@dataclass
class StageConfig:
    """What one run trains, and from where."""

    name: str = MISSING
    terms: list[str] = field(default=MISSING, metadata={"choices": ("vanilla", "ep", "rda", "crt", "ranking", "csa")})
    init_from: Optional[str] = MISSING  # noqa: UP045
    train_connector: bool = MISSING
    pipeline: list[str] = MISSING


@dataclass
class LaunchConfig:
    """Where and in which precision to run."""

    device: str = one_of("auto", "cpu")
    precision: str = one_of("no", "bf16", "fp16")
    workers: int = within(0)
    save_every: int = within(0)


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
    split: str = one_of("train", "val", "test")
    exemplar: str = one_of("on", "off", "both")
    data: Optional[str] = MISSING  # noqa: UP045
    tsm: Optional[str] = MISSING  # noqa: UP045
    other_data: Optional[DataConfig] = None  # noqa: UP045
    generate: bool = MISSING
    batch_size: int = within(1)
    device: str = one_of("auto", "cpu")
    overwrite: bool = MISSING


@dataclass
class PredictConfig:
    """Answers for single images."""

    run: str = MISSING
    exemplar: str = one_of("on", "off")
    set: Optional[str] = MISSING  # noqa: UP045
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
class AblationConfig:
    """A grid of runs: rows times seeds."""

    title: str = MISSING
    conditions: str = MISSING
    references: list[str] = MISSING
    base: list[str] = MISSING
    rows: dict[str, list[str]] = MISSING
    seeds: list[int] = MISSING
    split: str = one_of("train", "val", "test")
    generate: bool = MISSING
    workers: int = within(1)
