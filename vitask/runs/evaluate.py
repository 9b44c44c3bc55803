"""`vitask evaluate`: score a finished run on a split and write `metrics.json` and `predictions.csv`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from rich.progress import track

from vitask.config.accelerator import join_ranks
from vitask.config.build import build_negatives
from vitask.config.exemplars import build_tsm_exemplars
from vitask.data import DatasetNegatives, instruction_ids, label_ranges, members_of, row_ranges
from vitask.errors import UsageError
from vitask.evaluation.closed_set import SPARE_TOKENS, answer_images
from vitask.evaluation.contrast import blank_scores, contrasted
from vitask.evaluation.head import classify_images
from vitask.evaluation.open_ended import read_responses
from vitask.evaluation.ranking import rank_images, ranking_metrics
from vitask.reporting.table import MODES
from vitask.runs.evaluate_open import OpenEvaluation, draw_rivals
from vitask.runs.evaluate_set import SetEvaluation
from vitask.runs.evaluated_data import evaluated_task
from vitask.runs.evaluation_request import folder_name, is_done, modes, parts_to_compute
from vitask.runs.exemplars import exemplar_notes, exemplars_of, image_set, open_exemplars, with_asked_exemplars
from vitask.runs.folder import RunFolder, Stopwatch, is_main, own_rows, read_json, say, wait_for_everyone, write_json
from vitask.runs.identity import exemplar_from_tsm, is_head, with_hint
from vitask.runs.probe import probe
from vitask.runs.questions import asked_in, require_plain_texts
from vitask.runs.train_tsm import probabilities
from vitask.runs.tuned import (
    TunedVLM,
    finished_run,
    load_run_tsm,
    load_tuned,
    pick_device,
    require_head,
    require_same_tsm,
    tsm_folder,
)
from vitask.runs.tuned_head import head_probabilities, load_classifier
from vitask.tsm import Rows
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.config.schema import Config, EvaluateConfig
    from vitask.data import TaskData
    from vitask.tsm import ExemplarSource, TSMExemplars
    from vitask.vlm.classifier import VLMClassifier

FIGURES = (
    *("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auc", "average_precision", "log_likelihood"),
    *("brier", "ece", "label_accuracy", "kappa", "mae", "invalid_rate"),
)
RANKING = ("pairs_right", "positive_mean", "negative_mean", "gap")


def evaluate(request: EvaluateConfig) -> list[dict[str, Any]]:
    """Evaluate a run in every mode that was asked for, and return the metrics, one a mode.

    Modes are `off` and `on` (without and with the exemplar) for a VLM, `untuned` for the VLM before it was tuned, `tsm`
    for a TSM run. With `probe` it is that alone. What was evaluated before is read, not repeated, unless `overwrite`,
    or other data has changed since. Under torchrun each rank looks at its part of the images, and the main one writes.

    Raises:
        UsageError: there is no run, or it cannot do what was asked.
        VitaskError: the run is not finished, or something of it is missing, damaged or changed.
    """
    run, config = finished_run(request.run, request.base)
    require_head(run, config)
    join_ranks(request.device)
    if request.probe is not None:
        return [probe(run, config, request)] if is_main() else []
    config = with_asked_exemplars(config, request)
    request = replace(request, generate=request.generate and not is_head(config))
    results = {mode: run.path / "eval" / folder_name(request, mode) for mode in modes(request, config)}
    task = None if request.other_data is None else evaluated_task(run, config, request)
    found, tsm = task and task.fingerprint, tsm_folder(run, config)
    missing = [
        mode for mode, folder in results.items() if request.overwrite or not is_done(mode, folder, request, tsm, found)
    ]
    wait_for_everyone()  # so that no rank finds what another one writes
    if missing:
        task = task or evaluated_task(run, config, request)
        evaluation = Evaluation(run, config, request, task, with_exemplar="on" in missing)
        for mode in missing:
            evaluation.write(mode, results[mode])
    wait_for_everyone()
    return [read_json(folder / "metrics.json") for folder in results.values()]


class Evaluation:
    """One run on one split: the data, the TSM if there is one, and the VLM, loaded once for all modes."""

    def __init__(
        self, run: RunFolder, config: Config, request: EvaluateConfig, task: TaskData, *, with_exemplar: bool
    ) -> None:
        self.run = run
        self.with_exemplar = with_exemplar
        self.config = config
        self.request = request
        self.device = pick_device(request.device)
        self.task = task
        self.shown = image_set(self.task, request.split)
        self.tsm = self._load_tsm()
        self.logits = self.tsm.logits(self.shown) if self.tsm else None

    def write(self, mode: str, folder: Path) -> None:
        """Evaluate one mode and write its files, the `metrics.json` of the whole last."""
        watch = Stopwatch()
        parts = parts_to_compute(mode, folder, self.request)
        members = members_of(self.task)
        folders = [folder / member.name for member in members] if len(members) > 1 else [folder]
        sets = {}
        for number, (member, place) in enumerate(zip(members, folders, strict=True)):
            place.mkdir(parents=True, exist_ok=True)
            with self.tuned.vlm.untuned() if mode == "untuned" else nullcontext():
                ranking = {"ranking": self._rank(number, mode, place)} if "ranking" in parts else {}
                evaluation = self._evaluate(number, mode, "generated" in parts)
            if is_main():
                sets[member.name] = evaluation.write(place, {**self._frame(mode), **ranking})
        if not is_main():
            return
        if len(members) > 1:
            mean = mean_metrics(list(sets.values()))
            metrics = {**self._frame(mode), **mean, "labels": list(self.task.labels), "sets": sets}
            if "ranking" in parts:
                write_json(folder / "ranking.json", _joined([read_json(place / "ranking.json") for place in folders]))
        else:
            (metrics,) = sets.values()
        write_json(folder / "metrics.json", {**metrics, "seconds": watch.seconds()})

    def _frame(self, mode: str) -> dict[str, Any]:
        """What frames the figures: run, split, mode and conditions."""
        weight = self.request.contrast
        conditions = {**self.task.notes, **(exemplar_notes(self.config) if mode == "on" else {})}
        if weight:
            conditions["contrastive decoding"] = (
                f"{1 + weight:g} log p(answer | image) - {weight:g} log p(answer | grey image)"
            )
        frame = {"run": self.run.path.name, "split": self.request.split, "mode": mode, "conditions": conditions}
        frame["fingerprint"] = self.task.fingerprint
        return {**frame, "contrast": weight} if weight else frame

    def _load_tsm(self) -> TSMExemplars | None:
        """The run's TSM; for a VLM that answers without one, the TSM of the same settings if it happens to be there."""
        folder = tsm_folder(self.run, self.config) if self.request.tsm is None else Path(self.request.tsm).expanduser()
        optional = not (
            self.request.tsm is not None
            or self.config.stage.name == "tsm"
            or with_hint(self.config)
            or (self.with_exemplar and exemplar_from_tsm(self.config))
        )
        if optional and (self.config.tsm.tune == "none" or self.task.open_ended):
            return None
        if optional and not RunFolder(folder).finished:
            say("the TSM of these settings is not trained (stage=tsm), so its figures are left out")
            return None
        tsm = load_run_tsm(folder, self.task.labels)
        if not optional and self.request.tsm is None and self.config.stage.name != "tsm":
            require_same_tsm(self.run, tsm)
        return build_tsm_exemplars(self.config, tsm, self.device)

    def _evaluate(self, number: int, mode: str, with_text: bool) -> SetEvaluation | OpenEvaluation:
        member, split = members_of(self.task)[number], self.request.split
        if member.open_ended:
            return self._read(mode, with_text)
        tsm = self._tsm_probabilities(number)
        if mode == "tsm":
            return SetEvaluation(member, split, tsm)
        if is_head(self.config):
            return SetEvaluation(member, split, tsm, head_probabilities=self._classify(number))
        likelihoods, texts = self._answer(number, mode, with_text)
        return SetEvaluation(member, split, tsm, self.tuned.members[number].answers, likelihoods, texts)

    def _tsm_probabilities(self, number: int) -> Tensor | None:
        """The TSM's probabilities of one data set's labels, if it has a head."""
        rows, labels = self.shown.sets[number], label_ranges(self.task)[number]
        if self.logits is None:
            return None
        logits = self.logits[rows.start : rows.stop, labels.start : labels.stop].clone()
        return probabilities(logits, members_of(self.task)[number].multi_label)

    @cached_property
    def exemplars(self) -> ExemplarSource | None:
        """What gives the exemplars, if they are to be shown."""
        if not self.with_exemplar:
            return None
        return open_exemplars(self.run, self.config, self.request, self.tsm)

    @cached_property
    def tuned(self) -> TunedVLM:
        """The VLM, loaded on first use."""
        return load_tuned(self.run, self.config, self.device, exemplars=self.exemplars)

    @cached_property
    def head(self) -> VLMClassifier:
        """The VLM with its linear head, if it has one."""
        return load_classifier(self.run, self.tuned)

    @cached_property
    def prompts(self) -> list[PromptTable]:
        """Each data set's prompts, shared by the modes."""
        split = self.request.split
        asked = asked_in(self.tuned.members, self.task, split, self.logits)
        require_plain_texts(self.tuned.prompter, self.task, split, asked)
        return [
            PromptTable(member.splits[split]["image"], self.tuned.prompter, asked[rows.start : rows.stop])
            for member, rows in zip(members_of(self.task), row_ranges(self.task, split), strict=True)
        ]

    def _answer(self, number: int, mode: str, with_text: bool) -> tuple[Tensor, list[str]]:
        """Candidate log-likelihoods and generated texts of one data set's split."""
        tuned, prompts, size = self.tuned, self.prompts[number], self.request.batch_size
        own, rows = own_rows(len(prompts)), self.shown.sets[number]
        batches = answer_images(
            tuned.vlm,
            tuned.prompter,
            Rows(prompts, own),
            tuned.responses(number),
            exemplars=Rows(self.exemplars(self.shown), rows[own.start : own.stop]) if mode == "on" else None,
            batch_size=size,
            with_text=with_text,
        )
        parts, texts = zip(*_tracked(batches, len(own), size, MODES[mode]), strict=True)
        scores = torch.cat(parts)
        if self.request.contrast:
            blank = blank_scores(tuned.vlm, prompts, tuned.responses(number), batch_size=size)
            scores = contrasted(scores, blank, self.request.contrast)
        return scores, [text for batch in texts for text in batch]

    def _read(self, mode: str, with_text: bool) -> OpenEvaluation:
        """Likelihoods of right and rival responses of an open-ended split, and free answers."""
        request, prompts, response = self.request, self.prompts[0], self.tuned.prompter.response
        rivals = draw_rivals(self.task, request.split, request.rivals, self.config.seed)
        own = self.task.splits[request.split]["answer"]
        known = {answer: response(self.task.answers[answer].text) for answer in set(own)}
        part, size = own_rows(len(prompts)), request.batch_size
        exemplars = exemplars_of(self.exemplars, self.shown, self.task, request.split) if mode == "on" else None
        batches = read_responses(
            self.tuned.vlm,
            self.tuned.prompter,
            Rows(prompts, part),
            [[known[each] for each in (own[row], *rivals[row])] for row in part],
            exemplars=None if exemplars is None else Rows(exemplars, part),
            batch_size=size,
            limit=max(map(len, known.values())) + SPARE_TOKENS if with_text else 0,
        )
        found = _tracked(batches, len(part), size, MODES[mode])
        scores, texts = ([each for batch in parts for each in batch] for parts in zip(*found, strict=True))
        tokens = [len(known[answer]) for answer in own]
        return OpenEvaluation(self.task, request.split, rivals, request.rivals, scores, tokens, texts)

    def _classify(self, number: int) -> Tensor:
        """The head's probabilities of one data set's labels."""
        prompts, size = self.prompts[number], self.request.batch_size
        own = own_rows(len(prompts))
        batches = classify_images(self.head, self.tuned.prompter, Rows(prompts, own), batch_size=size)
        return head_probabilities(self.tuned.members[number], _tracked(batches, len(own), size, "linear head"))

    def _rank(self, number: int, mode: str, folder: Path) -> dict[str, float]:
        """Write the probabilities of every pair of one data set's split, and return their figures."""
        member, tuned, prompts = members_of(self.task)[number], self.tuned, self.prompts[number]
        answers, crt = member.splits[self.request.split]["answer"][:], self.config.objective.crt
        label_sets = [answer.labels for answer in member.answers] if crt.disjoint else None
        texts = [prompts.instruction(row) for row in range(len(prompts))]
        asked = np.unique(texts, return_inverse=True)[1]
        negatives = DatasetNegatives(answers, asked, self.config.seed, label_sets)
        if member.open_ended:
            asked = instruction_ids(member, self.request.split).tolist()
            negatives = build_negatives(replace(crt, negatives="dataset"), member, self.config.seed, self.request.split)
        drawn = negatives.draw(0, range(len(answers)), answers, asked)
        pairs = [(sample, image) for sample, image in enumerate(drawn) if image >= 0]
        if not pairs:
            raise UsageError(f"ranking=true: all images of {member.name}'s {self.request.split} split have one answer")
        responses = [tuned.prompter.response(member.answers[answer].text) for answer in answers]
        size, found, own = self.request.batch_size, {}, own_rows(len(prompts))
        batches = rank_images(tuned.vlm, tuned.prompter, prompts, responses, drawn, shown=own, batch_size=size)
        for batch in _tracked(batches, len(own), size, f"ranking, {MODES[mode]}"):
            found |= batch
        positive, negative = [found[sample, sample] for sample, _ in pairs], [found[pair] for pair in pairs]
        if is_main():
            write_json(folder / "ranking.json", {"positive": positive, "negative": negative})
        return ranking_metrics(positive, negative)


def mean_metrics(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the figures of several data sets, each counting the same, as the paper's tables do.

    Example:
        >>> mean_metrics([{"samples": 1, "accuracy": 0.5}, {"samples": 3, "accuracy": 1.0}])
        {'samples': 4, 'accuracy': 0.75}
    """
    means: dict[str, Any] = {"samples": sum(each["samples"] for each in sets)} if "samples" in sets[0] else {}
    means |= {
        name: statistics.mean(each[name] for each in sets)
        for name in (*FIGURES, *RANKING)
        if all(isinstance(each.get(name), float) and not math.isnan(each[name]) for each in sets)
    }
    for part in ("generated", "ranking", "tsm", "averaged", "majority"):
        if all(each.get(part) for each in sets):
            means[part] = mean_metrics([each[part] for each in sets])
        elif part in sets[0]:
            means[part] = None
    return means


def _joined(pairs: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """The pairs of several data sets, one set behind the other."""
    return {key: [value for each in pairs for value in each[key]] for key in pairs[0]}


def _tracked(batches: Iterator[Any], samples: int, batch_size: int, description: str) -> list[Any]:
    """Compute this rank's batches under a progress bar, and return those of all ranks in order."""
    bar = track(batches, description=description, total=-(-samples // batch_size), disable=not is_main())
    return gather_object(list(bar))
