"""What a word of a command line may become: keys level by level, then groups' options and choices. Loads no Hydra."""

from __future__ import annotations

from dataclasses import Field, fields, is_dataclass
from typing import Any, get_type_hints

from vitask.config import schema
from vitask.config.keys import ROOTS, groups

SAME = {"doctor": "train", "data": "train", "demo-ui": "demo_ui"}
GRIDS = "ablation"


def key_words(verb: str, word: str) -> list[str]:
    """List what a word of a verb's overrides may become.

    Args:
        verb: a verb of the command line.
        word: what is typed of the word.

    Returns:
        Keys of the level that is being typed, those that hold others with a dot; or, behind `=`, `key=value` for every
        option of a group, choice, or boolean.

    Example:
        >>> key_words("train", "objective.rda.direction=")
        ['objective.rda.direction=student_first', 'objective.rda.direction=teacher_first']
    """
    kinds, known = _kinds(verb)
    key, typed, _ = word.partition("=")
    if typed:
        return [f"{key}={value}" for value in _values(kinds, known, key)]
    above, dot, _ = key.rpartition(".")
    if dot:
        return _names([entry for kind in kinds for entry in _below(kind, above)], f"{above}.")
    top = _names([entry for kind in kinds for entry in _entries(kind)], "")
    return [*(f"{group}=" for group in known), *top]


def _kinds(verb: str) -> tuple[list[type], dict[str, list[str]]]:
    """The dataclasses whose keys a verb takes, and its groups."""
    trains = {name: options for name, options in groups().items() if name != GRIDS}
    if verb == "ablate":
        return [schema.AblationConfig, schema.Config], trains
    root = SAME.get(verb, verb)
    if root not in ROOTS:
        return [], {}
    if root == "evaluate":
        return [schema.EvaluateConfig, _OtherData], {"data": trains["data"]}
    return [ROOTS[root]], trains if root == "train" else {}


class _OtherData:
    """Of a training run's keys those that `evaluate` takes as well."""

    data: schema.DataConfig


def _entries(kind: type) -> list[tuple[str, Any, Field | None]]:
    """Names, types and fields of a dataclass."""
    hints = get_type_hints(kind)
    if not is_dataclass(kind):
        return [(name, hint, None) for name, hint in hints.items()]
    return [(entry.name, hints[entry.name], entry) for entry in fields(kind) if entry.name != "other_data"]


def _below(kind: type, path: str) -> list[tuple[str, Any, Field | None]]:
    """The entries of the dataclass at a dotted path, none if there is no such."""
    found = [kind]
    for name in path.split("."):
        found = [hint for each in found for own, hint, _ in _entries(each) if own == name and _holds(hint)]
    return [entry for each in found for entry in _entries(each)]


def _holds(hint: Any) -> bool:
    return is_dataclass(hint)


def _names(entries: list[tuple[str, Any, Field | None]], prefix: str) -> list[str]:
    return list(dict.fromkeys(f"{prefix}{name}{'.' if _holds(hint) else '='}" for name, hint, _ in entries))


def _values(kinds: list[type], known: dict[str, list[str]], key: str) -> list[str]:
    if key in known:
        return known[key]
    above, _, last = key.rpartition(".")
    for kind in kinds:
        for name, hint, entry in _below(kind, above) if above else _entries(kind):
            if name == last and entry is not None:
                choices = entry.metadata.get("choices", ())
                return ["true", "false"] if hint is bool else list(choices) if "list" not in str(hint) else []
    return []
