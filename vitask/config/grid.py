"""From the name of a grid and overrides to its rows, each a list of overrides of one training run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from vitask.config.compose import check_override, check_syntax, checked, compose_tree, groups
from vitask.config.schema import AblationConfig
from vitask.errors import UsageError, did_you_mean

EVERY_ROW = "all"
"""In `embedded`: overrides that hold for every row."""


def compose_grid(name: str, overrides: Sequence[str]) -> tuple[AblationConfig, list[str]]:
    """Read a grid of `configs/ablation`, with the overrides that are its own; the others are for its runs.

    An override with several values, `lora.rank=4,8` or `connector=mlp,linear`, gives every row once for each of them.

    Args:
        name: of the grid.
        overrides: `key=value` of the grid (`seeds`, `split`, ...) and of its runs.

    Returns:
        The grid, and the overrides of every run.

    Raises:
        UsageError: there is no such grid, or an override is wrong.

    Example:
        >>> list(compose_grid("sweep", ["objective.alpha=0.3,1"])[0].rows)
        ['objective.alpha=0.3', 'objective.alpha=1']
    """
    known = groups()["ablation"]
    if name not in known:
        raise UsageError(f"no grid named '{name}'.{did_you_mean(name, known)} There are {', '.join(known)}")
    own_keys = {entry.name for entry in fields(AblationConfig)}
    if any(override.startswith("seed=") for override in overrides):
        raise UsageError("a grid runs over several seeds; write seeds=[0,1]")
    own = [override for override in overrides if override.partition("=")[0].partition(".")[0] in own_keys]
    rest = [override for override in overrides if override not in own]
    for override in own:
        check_syntax(override)
    grid = checked(
        AblationConfig, compose_tree([f"+ablation={name}", *(f"++ablation.{each}" for each in own)]).ablation
    )
    if not grid.seeds or not grid.rows:
        raise UsageError(f"{'rows' if grid.seeds else 'seeds'}: a grid needs at least one")
    _check_names(grid)
    several = {override: values for override in rest if len(values := _values(override)) > 1}
    rest = [override for override in rest if override not in several]
    for override in [*rest, *(each for values in several.values() for each in values)]:
        check_override("train", override)
    if several:
        grid = _swept(grid, list(product(*several.values())))
    if any(override.startswith("experiment=") for override in rest):
        grid = replace(grid, embedded={})
    return grid, rest


def _swept(grid: AblationConfig, choices: Sequence[Sequence[str]]) -> AblationConfig:
    """Multiply the rows by the choices; effects and figures, which name single rows, have no meaning any more."""
    only, rows, embedded = len(grid.rows) == 1, {}, {EVERY_ROW: grid.embedded.get(EVERY_ROW, [])}
    parts: dict[str, list[str]] = {row: [] for row in grid.rows}
    for row, own in grid.rows.items():
        for choice in choices:
            name = ", ".join(choice) if only else f"{row}, {', '.join(choice)}"
            parts[row].append(name)
            rows[name] = [*own, *choice]
            embedded[name] = grid.embedded.get(row, [])
    return replace(
        grid,
        rows=rows,
        embedded=embedded,
        evaluations={
            name: replace(spec, rows=None if spec.rows is None else [part for row in spec.rows for part in parts[row]])
            for name, spec in grid.evaluations.items()
        },
        references=[next(iter(rows))],
        effects={},
        shown={},
        figure="none",
    )


def _values(override: str) -> list[str]:
    """Return an override once for every value that it lists; one that is no sweep, or malformed, as it is."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return [override]
    if not parsed.is_sweep_override():
        return [override]
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]


def _check_names(grid: AblationConfig) -> None:
    """Raise a `UsageError` when a grid speaks of a row or an evaluation that it does not have."""
    named = [("references", row) for row in grid.references]
    named += [("embedded", row) for row in grid.embedded if row != EVERY_ROW]
    named += [(f"evaluations.{name}.rows", row) for name, spec in grid.evaluations.items() for row in spec.rows or ()]
    effects = [(f"effects.{name}", at) for name, effect in grid.effects.items() for at in (effect.of, effect.over)]
    shown = [(f"shown.{name}", place) for name, place in grid.shown.items()]
    for key, place in effects + shown:
        if not 1 <= len(place) <= 3:
            raise UsageError(f"{key}: expected [row, mode, evaluation], got {place}")
        named.append((key, place[0]))
        if len(place) == 3:
            _known(key, "evaluation", place[2], grid.evaluations)
    for key, row in named:
        _known(key, "row", row, grid.rows)


def _known(key: str, kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UsageError(
            f"{key}: there is no {kind} '{name}'.{did_you_mean(name, list(known))} There are {', '.join(known)}"
        )
