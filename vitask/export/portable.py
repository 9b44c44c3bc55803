"""What an export says of the machine that it was made on: nothing; the base model has a name, not a place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.config.compose import compose_config
from vitask.reporting.card import HUB_NAME
from vitask.runs.identity import data_name
from vitask.vlm.load import TINY

if TYPE_CHECKING:
    from vitask.config.schema import Config, DataConfig


def on_hub(config: Config) -> bool:
    """Say whether the base model goes by a name on the hub."""
    path = config.vlm.path
    return HUB_NAME.fullmatch(path) is not None and not Path(path).expanduser().exists()


def local_base(config: Config) -> str | None:
    """Return the name of the base model's folder; None of a base model that everybody finds by what it is called.

    Example:
        >>> local_base(compose_config("train", ["vlm.path=/home/me/InternVL2-2B-hf"]))
        'InternVL2-2B-hf'
    """
    if config.vlm.path == TINY or on_hub(config):
        return None
    return Path(config.vlm.path).expanduser().resolve().name


def portable(config: Config) -> Config:
    """Return the settings of a run as they may leave this machine.

    Where data, runs and caches lay is left out; of other files the name stays. A local base model becomes `./<name>`,
    which is never taken for a name on the hub.
    """
    shipped, base = compose_config("train", []), local_base(config)
    return replace(
        config,
        out=shipped.out,
        cache=shipped.cache,
        data=_without_places(config.data, data_name(config)),
        vlm=replace(config.vlm, path=f"./{base}" if base else config.vlm.path),
        tsm=replace(config.tsm, checkpoint=_file_name(config.tsm.checkpoint)),
        exemplar=replace(config.exemplar, table=_file_name(config.exemplar.table)),
        launch=replace(config.launch, address=None, slurm=None),
    )


def located(shared: Config, config: Config) -> Config:
    """Return settings that `portable` gave, with base model and table of vectors where they are on this machine."""
    return replace(
        shared,
        vlm=replace(shared.vlm, path=config.vlm.path),
        exemplar=replace(shared.exemplar, table=config.exemplar.table),
    )


def _without_places(data: DataConfig, name: str) -> DataConfig:
    """Leave out where data lies; what is asked for by a name on the hub keeps that."""
    members = {key: _member_without_places(member) for key, member in (data.members or {}).items()}
    return replace(
        data,
        name=re.sub(r"[^\w. -]", "-", name).lstrip("-. ") or data.source,
        root=None,
        path=_hub_path(data.source, data.path),
        label_file=_file_name(data.label_file),
        members=members or data.members,
    )


def _member_without_places(member: dict[str, Any]) -> dict[str, Any]:
    places = {"root": None, "path": _hub_path(member.get("source"), member.get("path"))}
    places["label_file"] = _file_name(member.get("label_file"))
    return {key: places.get(key, value) for key, value in member.items()}


def _hub_path(source: str | None, path: str | None) -> str | None:
    return path if source == "hub" and path and not Path(path).expanduser().exists() else None


def _file_name(path: str | None) -> str | None:
    return None if path is None else Path(path).name
