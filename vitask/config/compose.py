"""From a command line to a checked configuration: Hydra composes, the schema checks, errors name the nearest key."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from importlib.resources import files
from typing import Any, TypeVar, get_args

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vitask.config import schema
from vitask.config.keys import PACKAGE, ROOTS, folders, groups, own_folder, typed_keys
from vitask.errors import UsageError, did_you_mean

T = TypeVar("T")


def compose_config(root: str, overrides: Sequence[str]) -> Any:
    """Compose one verb's configuration.

    Args:
        root: `"train"`, `"evaluate"`, `"predict"`, `"report"` or `"bench"`.
        overrides: Hydra overrides, for example `["stage=ep", "objective.alpha=0.3"]`; for the verbs that have no
            groups plain `key=value`, so that a path may hold any character.

    Returns:
        A checked `Config`, `EvaluateConfig`, `PredictConfig`, `ReportConfig` or `BenchConfig`.

    Raises:
        UsageError: an override is malformed, or a key or value is unknown, missing or out of range.

    Example:
        >>> compose_config("train", ["stage=ep", "seed=3"]).seed
        3
    """
    if root == "evaluate":
        return _compose_evaluation(overrides)
    for override in overrides:
        check_override(root, override)
    if root == "train":
        return checked(schema.Config, compose_tree(overrides))
    return _compose_plain(root, overrides)


def _compose_evaluation(overrides: Sequence[str]) -> schema.EvaluateConfig:
    """Compose an evaluation; `data=<group> data.key=value` says what other data to evaluate on, as in training."""
    of_data = data_overrides(overrides)
    for override in overrides:
        check_override("train" if override in of_data else "evaluate", override)
    request = _compose_plain("evaluate", [override for override in overrides if override not in of_data])
    if not of_data:
        return request
    if not any(override.startswith("data=") for override in of_data):
        raise UsageError(f"{of_data[0]}: say which data as well, data=<{'|'.join(groups()['data'])}>")
    return replace(request, other_data=checked(schema.Config, compose_tree(of_data)).data)


def data_overrides(overrides: Sequence[str]) -> list[str]:
    """Pick those overrides of an evaluation that say, as in training, which other data to evaluate on."""
    known = [f"data={name}" for name in groups()["data"]]
    return [override for override in overrides if override in known or override.startswith("data.")]


def _compose_plain(root: str, overrides: Sequence[str]) -> Any:
    """Compose a verb that has no groups; `null` is nothing where the schema allows that, and a text elsewhere."""
    plain = OmegaConf.to_container(OmegaConf.load(str(files(PACKAGE) / f"{root}.yaml")))
    optional = [key for key, hint in typed_keys(root).items() if type(None) in get_args(hint)]
    given = dict(override.split("=", 1) for override in overrides)
    absent = {key: None for key, value in given.items() if value == "null" and key in optional}
    return checked(ROOTS[root], {**plain, **given, **absent})


def compose_tree(overrides: Sequence[str]) -> DictConfig:
    """Let Hydra compose a training run, with the user's own folder of groups behind the shipped ones."""
    try:
        with initialize_config_module(PACKAGE, version_base="1.3"):
            return compose("train", overrides=hydra_overrides(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_first_line(error)) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"a config of your own is no YAML in UTF-8: {' '.join(str(error).split())}") from error


def hydra_overrides(overrides: Sequence[str]) -> list[str]:
    """Say overrides in Hydra's words; the first names the user's own folder of groups, if there is one."""
    own = [f"hydra.searchpath=[file://{folder}]" for folder in own_folder()]
    return [*own, *map(_for_hydra, overrides)]


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
        raise UsageError(_first_line(error)) from error
    _check_values(result, "")
    return result


def load_stage(name: str) -> schema.StageConfig:
    """Read one stage of `configs/stage`, or of the user's own folder.

    Raises:
        UsageError: there is no such stage.
    """
    known = groups()["stage"]
    if name not in known:
        raise UsageError(f"stage '{name}': no such stage.{did_you_mean(name, known)} There are {', '.join(known)}")
    found = [path for folder in folders() if (path := folder / "stage" / f"{name}.yaml").is_file()]
    return checked(schema.StageConfig, OmegaConf.load(str(found[0])))


def check_override(root: str, override: str) -> None:
    """Raise a `UsageError` that suggests the nearest key or option, for what Hydra would refuse at length."""
    _check_dashes(root, override)
    match = re.fullmatch(r"(?P<prefix>\+\+|\+|~)?(?P<key>[\w./@-]+)(?:=(?P<value>.*))?", override, re.DOTALL)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        raise UsageError(
            f"'{override}' is not an override; write key=value, for example stage=ep or objective.alpha=0.3"
        )
    key, value = match["key"], match["value"]
    if root == "train":
        check_syntax(override)
        if match["prefix"] or key.startswith("hydra"):
            return
    known_groups = {name: options for name, options in groups().items() if root == "train" and name != "ablation"}
    if key in known_groups:
        _check_option(key, value, known_groups[key])
    elif match["prefix"] or (key not in typed_keys(root) and not _in_free_dictionary(key)):
        near = did_you_mean(key, [*typed_keys(root), *known_groups])
        raise UsageError(f"unknown config key '{key}'.{near} `vitask {root} --help` lists the keys")


def _check_dashes(root: str, override: str) -> None:
    """Raise a `UsageError` if a key is written as an option of other programs, `--key=value` or `--key`."""
    name, _, value = override.lstrip("-").partition("=")
    known = {*typed_keys(root), *(groups() if root == "train" else ())}
    key = next((each for each in (name, name.replace("-", "_")) if each in known), None)
    if override.startswith("-") and key is not None:
        raise UsageError(f"'{override}': write {key}={value or '...'}, without dashes")


def check_syntax(override: str) -> None:
    """Raise a `UsageError` if Hydra cannot read an override, or reads several values."""
    try:
        parsed = OverridesParser.create().parse_override(_for_hydra(override))
    except HydraException as error:
        raise UsageError(
            f"'{override}' cannot be read: {str(error).splitlines()[0]}; quote a value with , = [ or {{"
        ) from error
    if parsed.is_sweep_override():
        raise UsageError(f"'{override}' gives several values; one run takes one, and `vitask ablate` runs grids")


def _check_option(group: str, option: str, known: Sequence[str]) -> None:
    optional = group not in {entry.name for entry in fields(schema.Config)}
    if option not in known and not (optional and option == "null"):
        raise UsageError(f"{group}={option}: no such option.{did_you_mean(option, known)} There are {', '.join(known)}")


def _for_hydra(override: str) -> str:
    """Say an override in Hydra's words: a free dictionary takes any key, and a text, such as a path, any character."""
    key, _, value = override.partition("=")
    if _in_free_dictionary(key):
        return f"++{override}"
    if typed_keys("train").get(key) in (str, str | None) and value != "null" and not value.startswith(("'", '"', "${")):
        escaped = value.replace("'", "\\'")
        return f"{key}='{escaped}'"
    return override


def _in_free_dictionary(key: str) -> bool:
    """Whether a key is, or is inside, a dictionary that takes any key."""
    free = [name for name, hint in typed_keys("train").items() if "dict" in str(hint) or hint is Any]
    return any(key == name or key.startswith(f"{name}.") for name in free)


def _check_values(value: Any, prefix: str) -> None:
    for entry in fields(value):
        key, item = f"{prefix}{entry.name}", getattr(value, entry.name)
        if is_dataclass(item):
            _check_values(item, f"{key}.")
        elif isinstance(item, dict):
            for name, member in item.items():
                if is_dataclass(member):
                    _check_values(member, f"{key}.{name}.")
        elif item is not None:
            for each in item if isinstance(item, list) else [item]:
                _check_value(key, each, entry.metadata)


def _check_value(key: str, item: Any, rule: Mapping[str, Any]) -> None:
    choices, bounds, pattern = rule.get("choices"), rule.get("range"), rule.get("pattern")
    if choices and item not in choices:
        raise UsageError(f"{key}: '{item}' is not one of {', '.join(choices)}.{did_you_mean(str(item), choices)}")
    if bounds and not bounds[0] <= item <= (bounds[1] if bounds[1] is not None else sys.float_info.max):
        span = f"at least {bounds[0]}" if bounds[1] is None else f"between {bounds[0]} and {bounds[1]}"
        raise UsageError(f"{key}: {item} is out of range; expected {span}")
    if pattern and not re.fullmatch(pattern, item):
        raise UsageError(
            f"{key}: '{item}' becomes part of a folder's name; use letters, digits, '-', '_', '.' or space"
        )


def _first_line(error: BaseException) -> str:
    """The key and the first line of an error that says something; Hydra wraps the cause in one that does not."""
    cause = error.__cause__ or error
    line = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    key = getattr(error, "full_key", None) or getattr(cause, "full_key", None)
    return f"{key}: {line}" if key else line


__all__ = [
    "ROOTS",
    "check_override",
    "checked",
    "compose_config",
    "compose_tree",
    "data_overrides",
    "groups",
    "hydra_overrides",
    "load_stage",
]
