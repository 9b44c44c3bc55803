"""Exemplars from the configuration: whose vectors, and of which image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vitask.config.build import build_tsm
from vitask.data import read_vectors

if TYPE_CHECKING:
    from vitask.config import schema
    from vitask.tsm import TSM, ExemplarSource, TSMExemplars, VectorExemplars


def build_tsm_exemplars(config: schema.Config, tsm: TSM, device: Any, batch_size: int = 64) -> TSMExemplars:
    """Let a TSM give exemplars and class logits, kept in the cache."""
    from vitask.tsm import TSMExemplars

    return TSMExemplars(
        tsm,
        config.exemplar.features,
        cache_dir=f"{config.cache}/exemplars",
        device=device,
        batch_size=batch_size,
        workers=config.launch.workers,
    )


def build_exemplars(config: schema.Config, tsm: TSMExemplars | None) -> ExemplarSource:
    """Build what gives the exemplars: the table if there is one, else the TSM; then what their content is to be.

    Args:
        config: the run.
        tsm: what the TSM gives. A constant exemplar needs none: it takes the shape that the TSM's would have.

    Raises:
        UsageError: the table's kind is unknown, or a column is missing.
        VitaskError: the table is missing, damaged, or holds something else than vectors of one shape.
    """
    from vitask.tsm import CONTENTS

    if config.exemplar.table is not None:
        source: ExemplarSource = _vectors(config.exemplar.table)
    else:
        source = tsm or build_tsm_exemplars(config, _untrained(config.tsm), "cpu")
    return CONTENTS[config.exemplar.content](source, config.seed)


def _vectors(path: str) -> VectorExemplars:
    import torch

    from vitask.tsm import VectorExemplars

    vectors = read_vectors(path)
    return VectorExemplars(str(vectors.path), vectors.ids, torch.tensor(vectors.values))


def _untrained(config: schema.TSMConfig) -> TSM:
    return build_tsm(replace(config, tune="none", pretrained=False, checkpoint=None), 0)
