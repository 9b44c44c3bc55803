"""`vitask evaluate`: score a finished run on a split and write `metrics.json` and `predictions.csv`."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import track

from vitask.config.build import build_task
from vitask.data import label_ranges, members_of
from vitask.errors import UsageError, VitaskError
from vitask.evaluation.closed_set import answer_images
from vitask.runs.evaluate_set import SetEvaluation
from vitask.runs.features import exemplar_table
from vitask.runs.folder import RunFolder, Stopwatch, read_json, say, write_json
from vitask.runs.identity import needs_exemplar
from vitask.runs.train_tsm import probabilities
from vitask.runs.tuned import (
    TunedVLM,
    finished_run,
    known_labels,
    load_run_tsm,
    load_tuned,
    pick_device,
    tsm_folder,
)
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.config.schema import Config, EvaluateConfig
    from vitask.data import TaskData
    from vitask.tsm import TSM, ExemplarTable

FIGURES = ("accuracy", "macro_f1", "auc", "log_likelihood", "invalid_rate")


def evaluate(request: EvaluateConfig) -> list[dict[str, Any]]:
    """Evaluate a run in every mode that was asked for, and return the metrics, one a mode.

    Modes are `off` and `on` (without and with the exemplar) for a VLM, `tsm` for a TSM run. What was evaluated before
    is read, not repeated, unless `overwrite`.

    Raises:
        UsageError: there is no run, or it cannot do what was asked.
        VitaskError: the run is not finished, or something of it is missing, damaged or changed.
    """
    run, config = finished_run(request.run)
    if request.tsm is not None and not needs_exemplar(config):
        raise UsageError(f"tsm={request.tsm}: {request.run} sees no exemplar, so there is no TSM to replace")
    results = {mode: run.path / "eval" / _name(request, mode) for mode in _modes(request, config)}
    missing = [mode for mode, folder in results.items() if request.overwrite or not _done(mode, folder, request)]
    if missing:
        evaluation = Evaluation(run, config, request, with_exemplar="on" in missing)
        for mode in missing:
            evaluation.write(mode, results[mode])
    return [read_json(folder / "metrics.json") for folder in results.values()]


def _name(request: EvaluateConfig, mode: str) -> str:
    """Name the folder of an evaluation after all that it depends on."""
    parts = [f"{request.split}-{mode}"]
    if request.other_data is not None:
        text = json.dumps(asdict(request.other_data), sort_keys=True, default=str)
        parts.append(f"data-{request.other_data.source}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    for key, path in (("data", request.data), ("tsm", request.tsm)):
        if path is not None:
            run = Path(path).expanduser().resolve()
            parts.append(f"{key}-{run.parent.name}-{run.name}")
    return "_".join(parts)


def _modes(request: EvaluateConfig, config: Config) -> list[str]:
    if config.stage.name == "tsm":
        return ["tsm"]
    able = ["off", "on"] if needs_exemplar(config) else ["off"]
    if request.exemplar == "both":
        return able
    if request.exemplar not in able:
        raise UsageError(f"exemplar=on: {request.run} was trained without exemplar, so it has no connector")
    return [request.exemplar]


def _done(mode: str, folder: Path, request: EvaluateConfig) -> bool:
    """Whether an evaluation is there that holds what is asked for, and is younger than the other runs in it."""
    path = folder / "metrics.json"
    if not path.is_file():
        return False
    others = [Path(run).expanduser() / "summary.json" for run in (request.data, request.tsm) if run is not None]
    if any(other.is_file() and other.stat().st_mtime > path.stat().st_mtime for other in others):
        return False
    return mode == "tsm" or not request.generate or "generated" in read_json(path)


class Evaluation:
    """One run on one split: the data, the TSM if there is one, and the VLM, loaded once for all modes."""

    def __init__(self, run: RunFolder, config: Config, request: EvaluateConfig, *, with_exemplar: bool) -> None:
        self.run = run
        self.with_exemplar = with_exemplar
        self.config = config
        self.request = request
        self.device = pick_device(request.device)
        self.task = self._load_task()
        self.tsm = self._load_tsm()
        self.tables = [self._table(member) for member in members_of(self.task)]

    def write(self, mode: str, folder: Path) -> None:
        """Evaluate one mode and write its files, the `metrics.json` of the whole last."""
        watch = Stopwatch()
        frame = {
            "run": self.run.path.name,
            "split": self.request.split,
            "mode": mode,
            "conditions": dict(self.task.notes),
        }
        members = members_of(self.task)
        evaluations = [self._evaluate(number, mode) for number in range(len(members))]
        if len(members) == 1:
            metrics = evaluations[0].write(folder, frame)
        else:
            sets = {
                member.name: each.write(folder / member.name, frame)
                for member, each in zip(members, evaluations, strict=True)
            }
            metrics = {**frame, **mean_metrics(list(sets.values())), "labels": list(self.task.labels), "sets": sets}
        write_json(folder / "metrics.json", {**metrics, "seconds": watch.seconds()})

    def _load_task(self) -> TaskData:
        """The run's data, or other data that must ask for the same answers."""
        config, other = self.config, self.run
        if self.request.data is not None:
            other, config = finished_run(self.request.data)
        data = self.request.other_data or config.data
        task = build_task(data, config.seed, config.cache)
        if self.request.other_data is None:
            other.check_data(task)
        known, found = known_labels(self.run, self.config), [member.labels for member in members_of(task)]
        if found != known:
            raise VitaskError(
                f"the labels of this data ({_shown(found)}) are not those that {self.run.path} answers with "
                f"({_shown(known)}); give it the same texts (data.label_texts, data.label_file)"
            )
        return task

    def _load_tsm(self) -> TSM | None:
        """The run's TSM; for a VLM that answers without one, the TSM of the same settings if it happens to be there."""
        if self.request.tsm is not None:
            return load_run_tsm(Path(self.request.tsm).expanduser(), self.task.labels)
        folder = tsm_folder(self.run, self.config)
        optional = self.config.stage.name != "tsm" and not self.with_exemplar
        if optional and not RunFolder(folder).finished:
            say("the TSM of these settings is not trained (stage=tsm), so its figures are left out")
            return None
        return load_run_tsm(folder, self.task.labels)

    def _table(self, member: TaskData) -> ExemplarTable | None:
        if self.tsm is None:
            return None
        return exemplar_table(self.tsm, member, self.request.split, self.config, self.device)

    def _evaluate(self, number: int, mode: str) -> SetEvaluation:
        member, split = members_of(self.task)[number], self.request.split
        tsm = self._tsm_probabilities(number)
        if mode == "tsm":
            return SetEvaluation(member, split, tsm)
        likelihoods, texts = self._answer(number, mode)
        return SetEvaluation(member, split, tsm, self.tuned.members[number].answers, likelihoods, texts)

    def _tsm_probabilities(self, number: int) -> Tensor | None:
        """The TSM's probabilities of one data set's labels."""
        table, labels = self.tables[number], label_ranges(self.task)[number]
        if table is None:
            return None
        logits = torch.stack([table.logits[row] for row in range(len(table))])[:, labels.start : labels.stop]
        return probabilities(logits, members_of(self.task)[number].multi_label)

    @cached_property
    def tuned(self) -> TunedVLM:
        """The VLM, loaded on first use."""
        return load_tuned(self.run, self.config, self.device, tsm=self.tsm if self.with_exemplar else None)

    @cached_property
    def prompts(self) -> list[PromptTable]:
        """Each data set's prompts, shared by the modes."""
        return [
            PromptTable(member.splits[self.request.split]["image"], self.tuned.prompter, answers.instruction)
            for member, answers in zip(members_of(self.task), self.tuned.members, strict=True)
        ]

    def _answer(self, number: int, mode: str) -> tuple[Tensor, list[str]]:
        """Candidate log-likelihoods and generated texts of one data set's split."""
        tuned, prompts = self.tuned, self.prompts[number]
        batches = answer_images(
            tuned.vlm,
            tuned.prompter,
            prompts,
            tuned.responses(number),
            exemplars=self.tables[number].features if mode == "on" else None,
            batch_size=self.request.batch_size,
            with_text=self.request.generate,
        )
        scores, texts = zip(*_tracked(batches, len(prompts), self.request.batch_size, mode), strict=True)
        return torch.cat(scores), [text for batch in texts for text in batch]


def mean_metrics(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the figures of several data sets, each counting the same, as the paper's tables do.

    Example:
        >>> mean_metrics([{"samples": 1, "accuracy": 0.5}, {"samples": 3, "accuracy": 1.0}])
        {'samples': 4, 'accuracy': 0.75}
    """
    means: dict[str, Any] = {"samples": sum(each["samples"] for each in sets)} if "samples" in sets[0] else {}
    means |= {
        name: statistics.mean(each[name] for each in sets)
        for name in FIGURES
        if all(isinstance(each.get(name), float) and not math.isnan(each[name]) for each in sets)
    }
    for part in ("generated", "tsm", "majority"):
        if all(each.get(part) for each in sets):
            means[part] = mean_metrics([each[part] for each in sets])
        elif part in sets[0]:
            means[part] = None
    return means


def _shown(label_sets: Sequence[Sequence[str]]) -> str:
    return "; ".join(", ".join(labels) for labels in label_sets)


def _tracked(batches: Iterator[Any], samples: int, batch_size: int, mode: str) -> Iterator[Any]:
    """Show a progress bar over the batches."""
    total = -(-samples // batch_size)
    return track(batches, description=f"exemplar {mode}", total=total)
