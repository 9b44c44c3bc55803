"""From a command line to a checked configuration: Hydra composes, the schema checks, errors name the nearest key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from typing import Any, TypeVar, get_type_hints

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vitask.config import schema
from vitask.errors import UsageError, did_you_mean

ROOTS = {"train": schema.Config, "evaluate": schema.EvaluateConfig, "predict": schema.PredictConfig}
PACKAGE = "vitask.configs"
T = TypeVar("T")


def compose_config(root: str, overrides: Sequence[str]) -> Any:
    """Compose one verb's configuration.

    Args:
        root: `"train"`, `"evaluate"` or `"predict"`.
        overrides: Hydra overrides, for example `["stage=ep", "objective.alpha=0.3"]`.

    Returns:
        A checked `Config`, `EvaluateConfig` or `PredictConfig`.

    Raises:
        UsageError: an override is malformed, or a key or value is unknown, missing or out of range.

    Example:
        >>> compose_config("train", ["stage=ep", "seed=3"]).seed
        3
    """
    for override in overrides:
        check_override(root, override)
    return checked(ROOTS[root], _compose(root, overrides))


def _compose(root: str, overrides: Sequence[str]) -> DictConfig:
    try:
        with initialize_config_module(PACKAGE, version_base="1.3"):
            return compose(root, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_first_line(error)) from error


def compose_ablation(name: str, overrides: Sequence[str]) -> tuple[schema.AblationConfig, list[str]]:
    """Read a grid of `configs/ablation`, with the overrides that are its own; the others are for its runs.

    Raises:
        UsageError: there is no such grid, or an override is wrong.
    """
    known = groups()["ablation"]
    if name not in known:
        raise UsageError(f"no grid named '{name}'.{did_you_mean(name, known)} There are {', '.join(known)}")
    own_keys = {entry.name for entry in fields(schema.AblationConfig)}
    if any(override.startswith("seed=") for override in overrides):
        raise UsageError("a grid runs over several seeds; write seeds=[0,1]")
    own = [override for override in overrides if override.partition("=")[0] in own_keys]
    rest = [override for override in overrides if override not in own]
    for override in rest:
        check_override("train", override)
    grid = _compose("train", [f"+ablation={name}", *(f"ablation.{override}" for override in own)]).ablation
    return checked(schema.AblationConfig, grid), rest


def checked(kind: type[T], config: DictConfig | Mapping[str, Any]) -> T:
    """Turn plain values into a dataclass of the schema, with every type, choice and range checked.

    Raises:
        UsageError: a value does not fit; the message names the key.
    """
    try:
        config = OmegaConf.create(config) if not isinstance(config, DictConfig) else config
        typed = OmegaConf.merge(OmegaConf.structured(kind), config)
        missing = sorted(OmegaConf.missing_keys(typed))
        if missing:
            raise UsageError(f"{missing[0]} has no value; give {missing[0]}=...")
        result = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        raise UsageError(f"{f'{key}: ' if key else ''}{_first_line(error)}") from error
    _check_values(result, "")
    return result


def load_stage(name: str) -> schema.StageConfig:
    """Read one stage of the shipped `configs/stage`."""
    return checked(schema.StageConfig, OmegaConf.load(str(files(PACKAGE) / "stage" / f"{name}.yaml")))


def groups() -> dict[str, list[str]]:
    """List the config groups and their options, as they are on disk."""
    folders = [folder for folder in files(PACKAGE).iterdir() if folder.is_dir() and not folder.name.startswith("_")]
    options = {
        folder.name: sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml"))
        for folder in sorted(folders, key=lambda folder: folder.name)
    }
    return {name: [o for o in found if o != "base"] for name, found in options.items() if found}


def check_override(root: str, override: str) -> None:
    """Raise a `UsageError` that suggests the nearest key or option, for what Hydra would refuse at length."""
    match = re.fullmatch(r"(?P<prefix>\+\+|\+|~)?(?P<key>[\w./@-]+)(?:=(?P<value>.*))?", override, re.DOTALL)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        raise UsageError(
            f"'{override}' is not an override; write key=value, for example stage=ep or objective.alpha=0.3"
        )
    key, value = match["key"], match["value"]
    if match["prefix"] or key.startswith("hydra"):
        return
    known_groups = groups() if root == "train" else {}
    if key in known_groups:
        if value not in known_groups[key] and value not in ("null", ""):
            options = ", ".join(known_groups[key])
            raise UsageError(
                f"{key}={value}: no such option.{did_you_mean(value, known_groups[key])} There are {options}"
            )
        return
    keys = dict(_keys(ROOTS[root], ""))
    free = [known for known, kind in keys.items() if kind is dict and key.startswith(f"{known}.")]
    if key not in keys and not free:
        near = did_you_mean(key, [*keys, *known_groups])
        raise UsageError(f"unknown config key '{key}'.{near} `vitask {root} --help` lists the keys")


def _keys(kind: type, prefix: str) -> Iterator[tuple[str, type | None]]:
    """Yield every dotted key of a dataclass; the type is `dict` where any key may follow."""
    hints = get_type_hints(kind)
    for entry in fields(kind):
        hint = hints[entry.name]
        name = f"{prefix}{entry.name}"
        if is_dataclass(hint):
            yield name, None
            yield from _keys(hint, f"{name}.")
        else:
            yield name, dict if "dict" in str(hint) or hint is Any else None


def _check_values(value: Any, prefix: str) -> None:
    for entry in fields(value):
        key, item = f"{prefix}{entry.name}", getattr(value, entry.name)
        if is_dataclass(item):
            _check_values(item, f"{key}.")
        choices, bounds = entry.metadata.get("choices"), entry.metadata.get("range")
        if choices and item not in choices:
            raise UsageError(f"{key}: '{item}' is not one of {', '.join(choices)}.{did_you_mean(str(item), choices)}")
        if bounds and item is not None and not (bounds[0] <= item <= (bounds[1] if bounds[1] is not None else item)):
            span = f"at least {bounds[0]}" if bounds[1] is None else f"between {bounds[0]} and {bounds[1]}"
            raise UsageError(f"{key}: {item} is out of range; expected {span}")


def _first_line(error: BaseException) -> str:
    """The first line of an error that says something; Hydra wraps the cause in one that does not."""
    error = error.__cause__ or error
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


__all__ = ["check_override", "checked", "compose_ablation", "compose_config", "groups", "load_stage"]
