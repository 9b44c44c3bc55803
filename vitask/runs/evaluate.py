"""`vitask evaluate`: score a finished run on a split and write `metrics.json` and `predictions.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import track

from vitask.config.build import build_task
from vitask.errors import UsageError
from vitask.evaluation.closed_set import answer_images, label_probabilities
from vitask.evaluation.metrics import label_metrics, set_metrics
from vitask.evaluation.parsing import AnswerParser
from vitask.runs.features import exemplar_table
from vitask.runs.folder import RunFolder, Stopwatch, read_json, say, write_json, write_text
from vitask.runs.identity import needs_exemplar
from vitask.runs.train_tsm import probabilities
from vitask.runs.tuned import TunedVLM, finished_run, load_run_tsm, load_tuned, pick_device, tsm_folder
from vitask.training.tsm_data import label_targets
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.config.schema import Config, EvaluateConfig
    from vitask.tsm import TSM


def evaluate(request: EvaluateConfig) -> list[dict[str, Any]]:
    """Evaluate a run in every mode that was asked for, and return the metrics, one a mode.

    Modes are `off` and `on` (without and with the exemplar) for a VLM, `tsm` for a TSM run. What was evaluated before
    is read, not repeated, unless `overwrite`.

    Raises:
        UsageError: there is no run, or it cannot do what was asked.
        VitaskError: the run is not finished, or something of it is missing, damaged or changed.
    """
    run, config = finished_run(request.run)
    results = {mode: run.path / "eval" / f"{request.split}-{mode}" for mode in _modes(request, config)}
    missing = [mode for mode, folder in results.items() if request.overwrite or not _done(mode, folder, request)]
    if missing:
        evaluation = Evaluation(run, config, request, with_exemplar="on" in missing)
        for mode in missing:
            evaluation.write(mode, results[mode])
    return [read_json(folder / "metrics.json") for folder in results.values()]


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
    """Whether an evaluation is there that holds what is asked for."""
    path = folder / "metrics.json"
    return path.is_file() and (mode == "tsm" or not request.generate or "generated" in read_json(path))


class Evaluation:
    """One run on one split: the data, the TSM if there is one, and the VLM, loaded once for all modes."""

    def __init__(self, run: RunFolder, config: Config, request: EvaluateConfig, *, with_exemplar: bool) -> None:
        self.run = run
        self.with_exemplar = with_exemplar
        self.config = config
        self.request = request
        self.device = pick_device(request.device)
        self.task = build_task(config.data, config.seed, config.cache)
        run.check_data(self.task)
        self.targets = label_targets(self.task, request.split)
        self.tsm = self._load_tsm()
        self.table = exemplar_table(self.tsm, self.task, request.split, config, self.device) if self.tsm else None
        self.tsm_probabilities = self._tsm_probabilities()

    def write(self, mode: str, folder: Path) -> None:
        """Evaluate one mode and write its files, `metrics.json` last."""
        watch = Stopwatch()
        likelihoods, texts = None, None
        if mode == "tsm":
            scores = self.tsm_probabilities
        else:
            likelihoods, texts = self._answer(mode)
            candidates = [answer.labels for answer in self.task.answers[: self.task.candidates]]
            scores = label_probabilities(likelihoods, candidates, len(self.task.labels))
        metrics = {
            "run": self.run.path.name,
            "split": self.request.split,
            "mode": mode,
            "samples": len(self.targets),
            "seconds": 0.0,
            **self._score(scores, likelihoods),
            **({"generated": self._score_texts(texts)} if texts else {}),
            "tsm": label_metrics(self.targets, self.tsm_probabilities, self.task.multi_label) if self.tsm else None,
            "majority": self._majority(),
            "conditions": dict(self.task.notes),
            "labels": list(self.task.labels),
        }
        metrics["seconds"] = watch.seconds()
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "predictions.csv", self._predictions(scores, likelihoods, texts))
        write_json(folder / "metrics.json", metrics)

    def _load_tsm(self) -> TSM | None:
        """The run's TSM; for a VLM that answers without one, the TSM of the same settings if it happens to be there."""
        folder = tsm_folder(self.run, self.config)
        optional = self.config.stage.name != "tsm" and not self.with_exemplar
        if optional and not RunFolder(folder).finished:
            say("the TSM of these settings is not trained (stage=tsm), so its figures are left out")
            return None
        return load_run_tsm(folder, self.task.labels)

    def _tsm_probabilities(self) -> Tensor | None:
        if self.table is None:
            return None
        logits = torch.stack([self.table.logits[row] for row in range(len(self.targets))])
        return probabilities(logits, self.task.multi_label)

    @cached_property
    def tuned(self) -> TunedVLM:
        """The VLM, loaded on first use."""
        return load_tuned(self.run, self.config, self.device, with_exemplar=self.with_exemplar)

    @cached_property
    def prompts(self) -> PromptTable:
        """The split's prompts, shared by the modes."""
        images = self.task.splits[self.request.split]["image"]
        return PromptTable(images, self.tuned.prompter, self.tuned.instruction)

    def _answer(self, mode: str) -> tuple[Tensor, list[str]]:
        """Candidate log-likelihoods and generated texts of the whole split."""
        tuned, prompts = self.tuned, self.prompts
        batches = answer_images(
            tuned.vlm,
            tuned.prompter,
            prompts,
            tuned.responses,
            exemplars=self.table.features if mode == "on" else None,
            batch_size=self.request.batch_size,
            with_text=self.request.generate,
        )
        scores, texts = zip(*_tracked(batches, len(prompts), self.request.batch_size, mode), strict=True)
        return torch.cat(scores), [text for batch in texts for text in batch]

    def _score(self, scores: Tensor, likelihoods: Tensor | None) -> dict[str, float]:
        """Figures of label probabilities; a multi-label VLM answers with its likeliest label set."""
        metrics = label_metrics(self.targets, scores, self.task.multi_label)
        if self.task.multi_label and likelihoods is not None:
            metrics |= set_metrics(self.targets.numpy() > 0.5, self._sets(likelihoods.argmax(-1).tolist()))
        return metrics

    def _score_texts(self, texts: list[str]) -> dict[str, float]:
        """Figures of generated answers, and the share of them that is no answer of the set."""
        parsed = self._parse(texts)
        truth = self._sets(self.task.splits[self.request.split]["answer"][:])
        invalid = sum(answer is None for answer in parsed) / len(parsed)
        return {**set_metrics(truth, self._sets(parsed)), "invalid_rate": invalid}

    def _parse(self, texts: list[str]) -> list[int | None]:
        parser = AnswerParser([answer.text for answer in self.task.answers])
        return [parser(text) for text in texts]

    def _majority(self) -> dict[str, float]:
        """Figures of always giving the training split's most frequent answer."""
        counts = np.bincount(self.task.splits["train"]["answer"][:])
        truth = self._sets(self.task.splits[self.request.split]["answer"][:])
        return set_metrics(truth, self._sets([int(counts.argmax())] * len(truth)))

    def _sets(self, answers: list[int | None]) -> np.ndarray:
        """Label sets of answers, bool `(N, labels)`; an invalid answer is matched by no label set."""
        sets = np.zeros((len(answers), len(self.task.labels)), dtype=bool)
        for row, answer in enumerate(answers):
            if answer is not None:
                sets[row, list(self.task.answers[answer].labels)] = True
        return sets

    def _predictions(self, scores: Tensor, likelihoods: Tensor | None, texts: list[str] | None) -> str:
        """The CSV: sample id, truth, prediction, raw text and what it was read as, probability of every label."""
        split, answers = self.task.splits[self.request.split], self.task.answers
        ids, truth = split["id"][:], split["answer"][:]
        parsed = self._parse(texts) if texts else []
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        generated = ["text", "parsed"] if texts else []
        writer.writerow(["id", "truth", "prediction", *generated, *(f"p({label})" for label in self.task.labels)])
        for row, probabilities_row in enumerate(scores.tolist()):
            said = [texts[row], answers[parsed[row]].text if parsed[row] is not None else ""] if texts else []
            chosen = self._chosen(probabilities_row, None if likelihoods is None else likelihoods[row])
            figures = [f"{p:.6f}" for p in probabilities_row]
            writer.writerow([ids[row], answers[truth[row]].text, chosen, *said, *figures])
        return out.getvalue()

    def _chosen(self, probabilities_row: list[float], likelihoods: Tensor | None) -> str:
        """The text of the predicted answer: the likeliest candidate, or what the TSM's probabilities say."""
        if likelihoods is not None:
            return self.task.answers[int(likelihoods.argmax())].text
        if self.task.multi_label:
            return "; ".join(self.task.labels[i] for i, p in enumerate(probabilities_row) if p > 0.5)
        return self.task.labels[int(np.argmax(probabilities_row))]


def _tracked(batches: Iterator[Any], samples: int, batch_size: int, mode: str) -> Iterator[Any]:
    """Show a progress bar over the batches."""
    total = -(-samples // batch_size)
    return track(batches, description=f"exemplar {mode}", total=total)
