"""`vitask export`: a finished run as an adapter, a merged checkpoint or a bundle, checked before it is handed on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from vitask.config.schema import PredictConfig
from vitask.errors import UsageError, VitaskError
from vitask.export import plain
from vitask.export.check import Said, Verdict, compare, require_changed, target_digests
from vitask.export.facts import adapter_base, gather
from vitask.export.portable import located
from vitask.export.push import check_push, push
from vitask.export.samples import Samples, draw_samples
from vitask.export.words import say_in_words, say_plainly
from vitask.export.write import (
    CARD,
    describe_labels,
    merge,
    write_adapter,
    write_bundle,
    write_labels,
    write_merged,
)
from vitask.files import atomic_folder
from vitask.reporting.card import model_card
from vitask.runs.folder import LABELS, RunFolder, say, write_text
from vitask.runs.identity import is_head, needs_exemplar, with_hint
from vitask.runs.predictor import VLMPredictor
from vitask.runs.tuned import finished_run, load_tuned, pick_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from torch import Tensor

    from vitask.config.schema import Config, ExportConfig
    from vitask.runs.tuned import TunedVLM

BATCH_SIZE = 16


def export(request: ExportConfig) -> Path:
    """Export a finished run, and return the folder.

    Raises:
        UsageError: there is no run, it cannot be had in this form, the folder is there already, or nothing could be
            uploaded.
        VitaskError: the run is not finished or damaged, or the export does not say what the run says.
    """
    run, config = finished_run(request.run, request.base)
    _require_form(request, config)
    target = _target(request, run)
    if request.push is not None:
        check_push(request.push)
    with atomic_folder(target) as folder:
        labels, verdict = (_export_bundle if request.to == "bundle" else _export_plain)(request, run, config, folder)
        write_text(folder / CARD, model_card(gather(request, run, config, labels, target, verdict)))
    say(str(verdict))
    if request.push is not None:
        say(f"uploaded to {push(target, request.push, private=request.private)}")
    return target


def _require_form(request: ExportConfig, config: Config) -> None:
    """Raise a `UsageError` if a run cannot be had in the form that is asked for."""
    if config.stage.name == "tsm":
        raise UsageError(f"run={request.run}: the run of a TSM; its folder tsm/ holds it, export that of a VLM")
    if request.to == "adapter" and config.lora.tune == "all":
        raise UsageError(
            "to=adapter: this run tuned the language model itself (lora.tune=all); use to=merged or bundle"
        )
    if request.to == "bundle":
        return
    if is_head(config):
        raise UsageError(f"to={request.to}: this run has a linear head and gives no answers; to=bundle keeps the head")
    if with_hint(config):
        raise UsageError(f"to={request.to}: this run is told the TSM's answer (data.instruction.hint); use to=bundle")


def _target(request: ExportConfig, run: RunFolder) -> Path:
    """Where the export goes; an earlier one may be replaced, and nothing else."""
    target = Path(request.out).expanduser() if request.out is not None else run.path / "export" / request.to
    if target.exists() and not request.overwrite:
        raise UsageError(f"out={target}: is there already; add overwrite=true to replace it, or give another folder")
    if target.exists() and not (target / LABELS).is_file():
        raise UsageError(f"out={target}: holds no export ({LABELS} is missing), so it is not replaced; remove it")
    return target


def _export_plain(
    request: ExportConfig, run: RunFolder, config: Config, folder: Path
) -> tuple[dict[str, Any], Verdict]:
    """Write an adapter or a merged checkpoint and check it in a fresh model of transformers."""
    samples, before, digests, labels, tokens = _write_plain(request, run, config, folder)  # the run's model is gone now
    model, processor = _load_plainly(request, config, folder)
    model = model.to(pick_device(request.device))
    if samples.questions:
        after = say_plainly(model, processor, labels["sets"][0], samples, tokens)
    else:
        sets = zip(labels["sets"], samples.sets, strict=True)
        after = Said([_plain_answers(model, processor, question, shown.images) for question, shown in sets], [])
    dtype = _rounding(config, model.dtype)
    if request.to == "adapter":
        model = merge(model if config.lora.quantize == "none" else _plain_layers(run, config).vlm.vlm)
    weights = require_changed(digests, model)
    return labels, compare(before, after, dtype, samples, "without exemplar", weights)


def _write_plain(
    request: ExportConfig, run: RunFolder, config: Config, folder: Path
) -> tuple[Samples, Said, dict[str, str], dict[str, Any], list[tuple[int, ...]]]:
    """Ask the run itself, then write what is exported of it; return the token ids of responses in words, too."""
    predictor = _open(request, run, config, exemplar="off")
    samples = draw_samples(run, config, len(predictor.names), request.samples)
    before = _said(predictor, samples, [False])
    tokens = [predictor.tuned.prompter.response(response) for _, response in samples.questions]
    tuned = _plain_layers(run, config, predictor.tuned)
    digests = target_digests(tuned.vlm)
    labels = describe_labels(tuned, config.vlm.image_options, predictor.sizes)
    write_labels(folder, labels)
    if request.to == "adapter":
        write_adapter(run, config, tuned, folder)
    else:
        write_merged(config, tuned, folder)
    return samples, before, digests, labels, tokens


def _export_bundle(
    request: ExportConfig, run: RunFolder, config: Config, folder: Path
) -> tuple[dict[str, Any], Verdict]:
    """Write a bundle and check it as vitask loads it."""
    shuffled = config.exemplar.content == "shuffled"
    exemplar = "on" if needs_exemplar(config) and not shuffled else "off"
    predictor = _open(request, run, config, exemplar)
    samples = draw_samples(run, config, len(predictor.names), request.samples)
    shows = predictor.sees_exemplar and (samples.known or config.exemplar.table is None)
    ways, said = ([False, True], "with and without exemplar") if shows else ([False], "without exemplar")
    before = _said(predictor, samples, ways)
    digests = target_digests(_plain_layers(run, config, predictor.tuned).vlm)
    labels = describe_labels(predictor.tuned, config.vlm.image_options, predictor.sizes)
    write_labels(folder, labels)
    write_bundle(run, config, folder)
    del predictor
    bundle = RunFolder(folder)
    written = _open(replace(request, run=str(folder)), bundle, located(bundle.config(), config), exemplar)
    after = _said(written, samples, ways)
    dtype = _rounding(config, written.tuned.vlm.base.dtype)
    weights = require_changed(digests, merge(_plain_layers(bundle, config, written.tuned).vlm.vlm))
    return labels, compare(before, after, dtype, samples, said, weights)


def _plain_layers(run: RunFolder, config: Config, tuned: TunedVLM | None = None) -> TunedVLM:
    """Return a run's model, with the values that 4 bits hold in plain layers; merging into 4 bits would round again."""
    if config.lora.quantize == "none" and tuned:
        return tuned
    return load_tuned(run, config, "cpu", exemplars=None, dequantize=True)


def _rounding(config: Config, dtype: torch.dtype) -> torch.dtype:
    """Return the precision that answers are compared in: kernels for 4 bits may round to half precision."""
    return dtype if config.lora.quantize == "none" else torch.bfloat16


def _open(request: ExportConfig, run: RunFolder, config: Config, exemplar: str) -> VLMPredictor:
    asked = PredictConfig(
        run=request.run, exemplar=exemplar, exemplar_table=None, set=None, batch_size=BATCH_SIZE, device=request.device
    )
    return VLMPredictor(run, config, asked)


def _said(predictor: VLMPredictor, samples: Samples, ways: Sequence[bool]) -> Said:
    """What the run itself says, in each of several ways, without and with exemplar."""
    if samples.questions:
        parts = [say_in_words(predictor, samples, exemplar=way, batch_size=BATCH_SIZE) for way in ways]
        return Said([row for part in parts for row in part.rows], [text for part in parts for text in part.texts])
    rows = [
        predictor.answer(shown, number, exemplar=way, batch_size=BATCH_SIZE).probabilities
        for way in ways
        for number, shown in enumerate(samples.sets)
    ]
    return Said(rows, [])


def _plain_answers(model: Any, processor: Any, question: Mapping[str, Any], images: Sequence[Any]) -> Tensor:
    rows = [plain.answer_in_labels(model, processor, question, image)[1] for image in images]
    return torch.tensor([[row[label] for label in question["labels"]] for row in rows], dtype=torch.float64)


def _load_plainly(request: ExportConfig, config: Config, folder: Path) -> tuple[Any, Any]:
    """Load what was written as somebody without vitask would.

    Raises:
        VitaskError: it cannot be loaded so.
    """
    try:
        if request.to == "merged":
            return plain.load_merged(folder, dtype="auto")
        base, options = adapter_base(config, folder)
        with warnings.catch_warnings():  # peft asks transformers for an attribute by its old name
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return plain.load_adapter(folder, base, **options)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise VitaskError(f"export: transformers cannot load what was written: {reason}") from error
