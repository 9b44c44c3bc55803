"""Options of `data` that the embedded sets, whose images and splits are always the same, would ignore."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from vitask.config.build import data_configs
from vitask.config.keys import PACKAGE
from vitask.data.sources.digits import KINDS
from vitask.errors import UsageError

if TYPE_CHECKING:
    from vitask.config.schema import DataConfig

IGNORED = (
    *("root", "path", "subset", "revision", "size", "raw_labels", "ordinal", "no_finding", "columns", "splits"),
    *("fractions", "split_seed", "corrupt", "allow_missing", "members"),
)
"""They change the name of a run, so that runs with other values would look like replicates."""


def check_embedded(data: DataConfig) -> None:
    """Raise a `UsageError` that names an option with a value of one's own that an embedded set would ignore.

    What a mixture says for all its members is right if any of them takes it.
    """
    configs, shipped = data_configs(data), _shipped()
    common, alone = asdict(data), all(config.source in KINDS for config in configs)
    names = list(data.members or ()) if data.source == "mixture" else [None]
    for name, config in zip(names, configs, strict=True):
        values = asdict(config) if config.source in KINDS else {}
        for key in IGNORED:
            own = name is not None and values.get(key) != common[key]
            used = key == "no_finding" and config.instruction.hint
            if values and values[key] != shipped.get(key) and (own or alone) and not used:
                place = f"data.members.{name}.{key}" if own else f"data.{key}"
                raise UsageError(
                    f"{place}: {config.source} is embedded, always the same, and would ignore it; leave it out, or "
                    "say which other data, data=..."
                )


def _shipped() -> Any:
    """The shipped defaults; what is not among them, `root`, is null."""
    return OmegaConf.to_container(OmegaConf.load(str(files(PACKAGE) / "data" / "base.yaml")))
