"""The task-specific model: a timm backbone with a linear head, its input transforms, files, and exemplars on disk."""

from __future__ import annotations

from vitask.tsm.exemplar_file import ExemplarTable
from vitask.tsm.exemplars import cached_exemplars, compute_exemplars, exemplar_key
from vitask.tsm.kinds import KINDS
from vitask.tsm.model import TSM
from vitask.tsm.saving import load_tsm, save_tsm, weights_digest
from vitask.tsm.sources import (
    CONTENTS,
    ConstantExemplars,
    ExemplarSource,
    ImageSet,
    Rows,
    ShuffledExemplars,
    TSMExemplars,
    VectorExemplars,
)
from vitask.tsm.transforms import build_transform, describe_transform

__all__ = [
    "CONTENTS",
    "KINDS",
    "TSM",
    "ConstantExemplars",
    "ExemplarSource",
    "ExemplarTable",
    "ImageSet",
    "Rows",
    "ShuffledExemplars",
    "TSMExemplars",
    "VectorExemplars",
    "build_transform",
    "cached_exemplars",
    "compute_exemplars",
    "describe_transform",
    "exemplar_key",
    "load_tsm",
    "save_tsm",
    "weights_digest",
]
