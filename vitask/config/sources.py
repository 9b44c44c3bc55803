"""Data sets by the name of their source: which loader, with which part of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.data import (
    Columns,
    Instruction,
    TaskData,
    load_aptos2019_task,
    load_digits_task,
    load_ham10000_task,
    load_hub_task,
    load_idrid_task,
    load_image_folder_task,
    load_instruction_task,
    load_medmnist_task,
    load_messidor_task,
    load_table_task,
)
from vitask.errors import UsageError

if TYPE_CHECKING:
    from vitask.config import schema


def load_source(data: schema.DataConfig, cache: str) -> TaskData:
    """Load the data set that the configuration names, without conditions.

    Raises:
        UsageError: a value is missing or does not fit the source.
        VitaskError: the data is missing or broken.
    """
    return LOADERS[data.source](data, _options(data, cache))


def _options(data: schema.DataConfig, cache: str) -> dict[str, Any]:
    """Collect what all sources take (`vitask.data.DataOptions`)."""
    same = ("label_texts", "label_file", "raw_labels", "separator", "no_finding", "fractions", "split_seed")
    return {
        **{key: getattr(data, key) for key in (*same, "size", "allow_missing", "ordinal")},
        "split_names": data.splits,
        "skip_corrupt": data.corrupt == "skip",
        "cache_dir": Path(cache).expanduser() / "data",
    }


def _digits(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
    texts = {key: options[key] for key in ("label_texts", "label_file", "separator")}
    return load_digits_task(data.source, **texts)


def _medmnist(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
    size = options.pop("size") or 28
    return load_medmnist_task(_required(data, "name"), _required(data, "root"), size, download=data.download, **options)


def _image_folder(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
    return load_image_folder_task(_required(data, "root"), data.modality or "input", name=data.name, **options)


def _table(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
    columns = Columns(**asdict(data.columns))
    path = _required(data, "path")
    return load_table_task(path, data.modality or "input", name=data.name, root=data.root, columns=columns, **options)


def _instructions(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
    modality, asked = data.modality or "input", Instruction(data.instruction.template)
    return load_instruction_task(
        _required(data, "path"),
        modality,
        instruction=asked.template.format(modality=modality, labels="", definitions=""),
        name=data.name,
        root=data.root,
        columns=Columns(**asdict(data.columns)),
        **options,
    )


def _hub(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
    return load_hub_task(
        _required(data, "path"),
        data.modality or "input",
        name=data.name,
        subset=data.subset,
        revision=data.revision,
        columns=Columns(**asdict(data.columns)),
        **options,
    )


def _ham10000(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
    task = load_ham10000_task(_required(data, "root"), by_lesion=bool(data.columns.group), **options)
    return replace(task, name=data.name or task.name)


def _published(load: Callable[..., TaskData]) -> Callable[[schema.DataConfig, dict[str, Any]], TaskData]:
    def build(data: schema.DataConfig, options: dict[str, Any]) -> TaskData:
        task = load(_required(data, "root"), **options)
        return replace(task, name=data.name or task.name)

    return build


LOADERS: dict[str, Callable[[schema.DataConfig, dict[str, Any]], TaskData]] = {
    **dict.fromkeys(("digits", "digits_parity", "digits_size", "digits_pairs"), _digits),
    "medmnist": _medmnist,
    "image_folder": _image_folder,
    "table": _table,
    "instructions": _instructions,
    "hub": _hub,
    "ham10000": _ham10000,
    "aptos2019": _published(load_aptos2019_task),
    "idrid": _published(load_idrid_task),
    "messidor": _published(load_messidor_task),
}


def _required(data: schema.DataConfig, key: str) -> str:
    value = getattr(data, key)
    if value is None:
        raise UsageError(f"data.{key} has no value; data={data.source} needs data.{key}=...")
    return value
