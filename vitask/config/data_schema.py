"""The options of `data`, with their types and ranges. Defaults live in the YAML files under `configs/data/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from omegaconf import MISSING

from vitask.config.options import folder_word, one_of, within

# OmegaConf reads these annotations at run time, on Python 3.10 too: Optional[X], not X | None.


@dataclass
class InstructionConfig:
    """What the VLM is asked."""

    template: str = MISSING
    incomplete_template: str = MISSING
    complete: bool = MISSING
    hint: bool = MISSING
    hint_template: str = MISSING


@dataclass
class ColumnsConfig:
    """Which column of a table holds what."""

    image: Optional[str] = MISSING  # noqa: UP045
    label: Optional[str] = MISSING  # noqa: UP045
    split: Optional[str] = MISSING  # noqa: UP045
    group: Optional[str] = MISSING  # noqa: UP045
    id: Optional[str] = MISSING  # noqa: UP045
    label_separator: Optional[str] = MISSING  # noqa: UP045
    instruction: Optional[str] = None  # noqa: UP045
    response: Optional[str] = None  # noqa: UP045


@dataclass
class ShiftConfig:
    """What is done to the images of every split."""

    noise: float = within(0, 1)
    contrast: float = within(0, 10)
    brightness: float = within(0, 10)
    crop: float = within(0.05, 1)
    blur: float = within(0, 100)


@dataclass
class DataConfig:
    """Which task, under which conditions."""

    source: str = one_of(
        "digits",
        "digits_parity",
        "digits_size",
        "digits_pairs",
        "medmnist",
        "image_folder",
        "table",
        "instructions",
        "hub",
        "ham10000",
        "aptos2019",
        "idrid",
        "messidor",
        "mixture",
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
    shift: ShiftConfig = MISSING
    label_noise: float = within(0, 0.99)
    imbalance: float = within(0, 1)
    train_fraction: float = within(0, 1)
    members: Optional[dict[str, Any]] = MISSING  # noqa: UP045
    instruction: InstructionConfig = MISSING
