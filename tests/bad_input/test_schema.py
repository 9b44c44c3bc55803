"""Every key of every verb, given what its type or its range does not allow: code 2, and the key by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from vitask.config import schema
from vitask.config.compose import checked, compose_tree
from vitask.config.keys import ROOTS
from vitask.errors import UsageError

GIVEN = {
    "evaluate": ("run=x",),
    "predict": ("run=x", "x.png"),
    "export": ("run=x",),
    "demo_ui": ("run=x",),
    "compare": ("a", "b"),
    "report": ("a",),
}
"""What a verb needs beside the key that is wrong."""


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Key, type and rule of every option that holds a value."""
    hints = get_type_hints(kind)
    for entry in fields(kind):
        if is_dataclass(hints[entry.name]):
            yield from leaves(hints[entry.name], f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", str(hints[entry.name]), entry.metadata


def unfit(hint: str, rule: Mapping[str, Any]) -> list[str]:
    """Values that an option of this type and rule has to refuse; a text without a rule takes anything."""
    values = []
    if "choices" in rule:
        values.append("[nosuch]" if "list" in hint else "nosuch")
    if "range" in rule:
        low, high = rule["range"]
        values += [f"{low - 1:g}", *([str(high + 1)] if high is not None else [])]
    if "pattern" in rule:
        values.append("a/b")
    if "list" in hint or "dict" in hint:
        values.append("3")
    elif "bool" in hint:
        values.append("perhaps")
    elif "float" in hint:
        values += ["word", "nan", "inf"]
    elif "int" in hint:
        values += ["word", "1.5"]
    return values


def cases(kind: type) -> list[tuple[str, str]]:
    """Keys and values that do not fit them."""
    return [(key, value) for key, hint, rule in leaves(kind) for value in unfit(hint, rule)]


TRAIN = cases(schema.Config)
GRID = [(key, value) for key, value in cases(schema.AblationConfig) if key not in ("evaluations", "effects")]
PLAIN = [(verb, *case) for verb, kind in ROOTS.items() if verb != "train" for case in cases(kind)]
SAMPLED = [*TRAIN[:: len(TRAIN) // 12], ("data.shift.noise", "2"), ("launch.port", "0"), ("objective.crt.group", "1")]
"""As words on a real command line; Hydra takes its time to compose."""


@pytest.fixture(scope="module")
def tree() -> DictConfig:
    return compose_tree([])


def name(case: tuple[str, ...]) -> str:
    return "=".join(case[-2:])


@pytest.mark.parametrize("case", TRAIN, ids=name)
def test_a_value_of_a_run_that_does_not_fit(case, tree):
    key, value = case
    config = tree.copy()
    with open_dict(config):
        OmegaConf.update(config, key, OverridesParser.create().parse_override(f"{key}={value}").value(), merge=False)
    with pytest.raises(UsageError) as refused:
        checked(schema.Config, config)
    assert str(refused.value).startswith(key)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: f"{case[0]}: {name(case)}")
def test_a_value_of_another_verb_that_does_not_fit(case, cli, tmp_path, monkeypatch):
    verb, key, value = case
    monkeypatch.chdir(tmp_path)
    ended = cli(verb.replace("_", "-"), *GIVEN.get(verb, ()), f"{key}={value}")
    assert ended.refuses(2)
    assert ended.err.startswith(f"vitask: {key}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("verb", "case"), [("train", case) for case in SAMPLED] + [("ablate", case) for case in GRID])
def test_a_value_on_the_command_line_of_a_run_or_a_grid(verb, case, cli, tmp_path, monkeypatch):
    key, value = case
    monkeypatch.chdir(tmp_path)
    ended = cli(verb, *(["demo"] if verb == "ablate" else []), f"{key}={value}")
    assert ended.refuses(2, key)
    assert list(tmp_path.iterdir()) == []


def test_the_cases_are_many():
    assert len(TRAIN) > 300
    assert {verb for verb, *_ in PLAIN} == ROOTS.keys() - {"train"}
