"""What goes into an exported folder: weights, processor, generation settings, labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import VitaskError
from vitask.export.portable import local_base, portable
from vitask.runs.folder import ENVIRONMENT, LABELS, SUMMARY, RunFolder, read_json, write_config, write_json
from vitask.runs.identity import exemplar_from_tsm, with_hint
from vitask.runs.predictor import MOST_TOKENS
from vitask.runs.tuned import tsm_folder
from vitask.vlm.adapt import is_adapted
from vitask.vlm.load import TINY, TINY_FOLDER
from vitask.vlm.saving import ADAPTER, DESCRIPTION

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, ProcessorMixin

    from vitask.config.schema import Config
    from vitask.runs.tuned import TunedVLM

CARD, BASE = "README.md", "base"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def describe_labels(tuned: TunedVLM, image_options: dict[str, Any], sizes: Sequence[int | None]) -> dict[str, Any]:
    """Return what `labels.json` holds: for each data set what is asked and what may be answered.

    The shorter side of an image has at most `size` pixels, where there is one. An answer has its text, the labels that
    it stands for, and its token ids with the one that ends it. A run that answers in words has no labels, and how an
    answer ends instead.
    """
    words = {"end_token": tuned.prompter.end_id, "max_tokens": MOST_TOKENS}
    return {
        "sets": [
            {
                **({} if question.labels else words),
                "name": question.name,
                "instruction": question.instruction,
                "labels": list(question.labels),
                "multi_label": question.multi_label,
                "size": size,
                "image_options": image_options,
                "answers": [
                    {
                        "text": text,
                        "labels": [question.labels[label] for label in labels],
                        "tokens": list(tuned.prompter.response(text)),
                    }
                    for text, labels in question.answers
                ],
            }
            for question, size in zip(tuned.members, sizes, strict=True)
        ]
    }


def write_adapter(run: RunFolder, config: Config, tuned: TunedVLM, folder: Path) -> None:
    """Write a peft adapter as peft alone loads it, and all but the base model's weights around it.

    The embedded VLM has no name on a hub, so it comes along, in `base`.
    """
    shutil.copy(run.model / ADAPTER / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    _write_adapter_config(run.model / ADAPTER / ADAPTER_CONFIG, folder / ADAPTER_CONFIG, config)
    _write_processor(tuned.prompter.processor, config.vlm.image_options, folder)
    _mend_generation(tuned.vlm.base)
    tuned.vlm.base.generation_config.save_pretrained(folder)
    if config.vlm.path == TINY:
        shutil.copytree(TINY_FOLDER, folder / BASE, ignore=shutil.ignore_patterns("probe.parquet", "pretraining.json"))


def merge(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """Merge LoRA into the weights, in place, and put trained copies of tower and projector where they belong.

    A model that was tuned without an adapter is returned as it is.

    Raises:
        VitaskError: a merged weight is no number.
    """
    if not is_adapted(model):
        return model
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise VitaskError(f"export: LoRA cannot be merged: {error}; nothing was written") from error


def write_merged(config: Config, tuned: TunedVLM, folder: Path) -> None:
    """Write a checkpoint with LoRA merged into it; the model is changed in place, and holds no layer in 4 bits."""
    merged = merge(tuned.vlm.vlm)
    _mend_generation(merged)
    merged.save_pretrained(folder)
    _write_processor(tuned.prompter.processor, config.vlm.image_options, folder)


def write_bundle(run: RunFolder, config: Config, folder: Path) -> None:
    """Write what `vitask.Classifier` or `vitask.Answerer` needs, laid out as a run folder with its TSM inside.

    The base VLM is named; what lay on this machine, data, runs, caches and a base VLM, is not said to be there.
    """
    for name in (ENVIRONMENT, SUMMARY):
        shutil.copy(run.path / name, folder / name)
    write_config(folder, portable(config))
    model = RunFolder(folder).model
    shutil.copytree(run.model, model, ignore=shutil.ignore_patterns(CARD))
    described = read_json(model / DESCRIPTION)
    write_json(model / DESCRIPTION, {**described, "base": local_base(config) or config.vlm.path})
    if config.lora.tune == "adapter":
        _write_adapter_config(run.model / ADAPTER / ADAPTER_CONFIG, model / ADAPTER / ADAPTER_CONFIG, config)
    if exemplar_from_tsm(config) or with_hint(config):
        shutil.copytree(RunFolder(tsm_folder(run, config)).tsm, RunFolder(folder).tsm)


def write_labels(folder: Path, labels: dict[str, Any]) -> None:
    """Write `labels.json`."""
    write_json(folder / LABELS, labels)


def _write_adapter_config(source: Path, target: Path, config: Config) -> None:
    """Copy peft's settings with the base model by its name, not by where it lay on this machine."""
    name = BASE if config.vlm.path == TINY else local_base(config) or config.vlm.path
    named = {"base_model_name_or_path": name, "revision": config.vlm.revision}
    target.write_text(json.dumps({**read_json(source), **named}, indent=2) + "\n")


def _write_processor(processor: ProcessorMixin, image_options: dict[str, Any], folder: Path) -> None:
    """Write the processor with the run's image options as its defaults, where it takes them for such."""
    processor = deepcopy(processor)
    for key, value in image_options.items():
        if hasattr(processor.image_processor, key):
            setattr(processor.image_processor, key, value)
    processor.save_pretrained(folder)


def _mend_generation(model: PreTrainedModel) -> None:
    """Drop sampling values from greedy generation settings: they have no effect, and transformers writes no such."""
    settings = model.generation_config
    try:
        settings.validate(strict=True)
    except ValueError:
        for name in SAMPLING if not settings.do_sample else ():
            setattr(settings, name, None)
