"""Where each value of a composed configuration comes from: the file that sets it last, or an override."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from typing import Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from vitask.config.compose import compose_config, data_overrides, hydra_overrides
from vitask.config.grid import compose_grid
from vitask.config.keys import PACKAGE, folders, groups
from vitask.config.schema import AblationConfig
from vitask.errors import UsageError

OVERRIDE = "override"
DEFAULT = "default of vitask/config/schema.py"
Key = tuple[str, ...]


@dataclass
class Origins:
    """By key, a tuple of names, what set its value last."""

    of: dict[Key, str] = field(default_factory=dict)

    def set(self, key: Key, value: Any, origin: str) -> None:
        """Note that `origin` sets a value: a dictionary is merged, anything else takes the place of what was there."""
        if isinstance(value, Mapping):
            if value:
                self.of.pop(key, None)
            elif self._below(key) in ([], [key]):
                self.of[key] = origin
            for name, inner in value.items():
                self.set((*key, str(name)), inner, origin)
            return
        self.drop(key)
        self.of[key] = origin

    def drop(self, key: Key) -> None:
        """Forget a key and all below it."""
        for old in self._below(key):
            del self.of[old]

    def under(self, name: str) -> Origins:
        """Those below a first name, without it."""
        return Origins({key[1:]: origin for key, origin in self.of.items() if key[0] == name and len(key) > 1})

    def __getitem__(self, key: Key | str) -> str:
        """What set a key, or the whole of which it is a part."""
        key = (key,) if isinstance(key, str) else key
        return next((self.of[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.of), DEFAULT)

    def _below(self, key: Key) -> list[Key]:
        return [old for old in self.of if old[: len(key)] == key]


def trace(root: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Origins]:
    """Compose a verb's configuration, and say where each value comes from.

    Args:
        root: `"train"` or another root of `compose_config`.
        overrides: as `compose_config` takes them.

    Returns:
        The checked values as nested dictionaries, and their origins: `"configs/objective/rda.yaml"`, say, the path of
        a file in the user's own folder, or `"override"`.

    Raises:
        UsageError: as `compose_config`.

    Example:
        >>> values, origins = trace("train", ["objective=rda", "seed=3"])
        >>> origins["objective", "beta"], origins["objective", "crt", "ramp"], origins["seed"]
        ('configs/objective/rda.yaml', 'configs/objective/paper.yaml', 'override')
    """
    values = asdict(compose_config(root, overrides))
    if root == "train":
        return values, _tree_origins(overrides)
    of_data = data_overrides(overrides) if root == "evaluate" else []
    origins = Origins()
    _set_file(origins, (), root)
    for override in overrides:
        if override not in of_data:
            origins.set((override.partition("=")[0],), None, OVERRIDE)
    other = values.pop("other_data", None)
    if other is not None:
        values["data"] = other
        origins.drop(("data",))
        origins.of |= {("data", *key): origin for key, origin in _tree_origins(of_data).under("data").of.items()}
    return values, origins


def trace_grid(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Origins]:
    """Compose a grid of `configs/ablation` as `trace` does a verb; overrides are those of the grid itself.

    Raises:
        UsageError: as `compose_grid`, or an override is of the grid's runs.
    """
    own = {entry.name for entry in fields(AblationConfig)}
    grid, _ = compose_grid(name, overrides)
    if of_runs := [override for override in overrides if override.partition("=")[0].partition(".")[0] not in own]:
        raise UsageError(f"{of_runs[0]} is of the grid's runs, not of the grid; see `vitask config train {of_runs[0]}`")
    origins = _tree_origins([f"+ablation={name}", *(f"++ablation.{override}" for override in overrides)])
    return asdict(grid), origins.under("ablation")


def _tree_origins(overrides: Sequence[str]) -> Origins:
    """Go through the files that Hydra merges, in its order, then through the overrides."""
    origins, spoken = Origins(), hydra_overrides(overrides)
    with initialize_config_module(PACKAGE, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        merged = loader.compute_defaults_list("train", spoken, RunMode.RUN).defaults
    for entry in merged:
        if entry.config_path and not entry.config_path.startswith("hydra/"):
            _set_file(origins, tuple(filter(None, (entry.package or "").split("."))), entry.config_path)
    known = groups()
    for override in OverridesParser.create().parse_overrides(spoken):
        key = tuple(override.key_or_group.split("."))
        if override.key_or_group in known or key[0] == "hydra":
            continue
        if override.is_delete():
            origins.drop(key)
        else:
            origins.set(key, override.value(), OVERRIDE)
    return origins


def _set_file(origins: Origins, package: Key, name: str) -> None:
    """Set all that a file of the shipped folder, or else of the user's own, holds."""
    path = next(path for folder in folders() if (path := folder / f"{name}.yaml").is_file())
    shipped = path == files(PACKAGE) / f"{name}.yaml"
    values = OmegaConf.to_container(OmegaConf.load(str(path)))
    for key, value in values.items():
        if key != "defaults":
            origins.set((*package, str(key)), value, f"configs/{name}.yaml" if shipped else str(path))
