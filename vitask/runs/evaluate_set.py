"""One data set's answers, scored: figures for `metrics.json` and the rows of `predictions.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.evaluation.calibration import reliability_bins
from vitask.evaluation.closed_set import label_probabilities
from vitask.evaluation.collapse import collapse
from vitask.evaluation.metrics import (
    Predictions,
    class_metrics,
    confusions,
    grade_metrics,
    label_metrics,
    predictions_of,
    set_metrics,
)
from vitask.evaluation.parsing import AnswerParser
from vitask.evaluation.uncertainty import bootstrap_intervals
from vitask.files import csv_text
from vitask.runs.folder import say, write_json, write_text
from vitask.training.tsm_data import label_targets

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.data import TaskData


class SetEvaluation:
    """What was answered on one split of one data set, beside the truth.

    Args:
        task: the data set.
        split: of it.
        tsm_probabilities: `(N, labels)`, if there is a TSM.
        candidates: the answers that the VLM chose from, each a text and its labels.
        likelihoods: of them `(N, candidates)`; without a VLM the TSM is what is evaluated.
        texts: generated answers, if any.
        head_probabilities: `(N, labels)` of a linear head on the VLM, which answers in no words and then is evaluated.
    """

    def __init__(
        self,
        task: TaskData,
        split: str,
        tsm_probabilities: Tensor | None,
        candidates: Sequence[tuple[str, tuple[int, ...]]] = (),
        likelihoods: Tensor | None = None,
        texts: list[str] | None = None,
        head_probabilities: Tensor | None = None,
    ) -> None:
        self.task = task
        self.split = split
        self.targets = label_targets(task, split)
        self.tsm_probabilities = tsm_probabilities
        self.candidates = candidates
        self.likelihoods = likelihoods
        self.texts = texts
        self.head_probabilities = head_probabilities

    def metrics(self) -> dict[str, Any]:
        """Return the figures, those of the TSM, of its mean with the VLM and of the majority class among them."""
        own, labels = self.predictions, list(self.task.labels)
        return {
            "samples": len(self.targets),
            **self._figures(own),
            **({"generated": self._score_texts()} if self.texts else {}),
            **self._controls(),
            "majority": self._majority(),
            "labels": labels,
            "per_class": class_metrics(own, labels),
            **confusions(own, labels),
            "reliability": reliability_bins(own.truth, own.scores, own.multi_label),
            **({"answers": self._label_sets()} if self.task.multi_label else {}),
        }

    def write(self, folder: Path, frame: dict[str, Any]) -> dict[str, Any]:
        """Write `predictions.csv` and, last, `metrics.json` with what frames the figures; return the metrics."""
        metrics = {**frame, **self.metrics()}
        if warning := collapse(self.predictions.truth, self.predictions.chosen, self.task.labels):
            say(f"warning: {self.task.name}, {self.split}: {warning}")
            metrics["warnings"] = [warning]
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "predictions.csv", self._csv())
        write_json(folder / "metrics.json", metrics)
        return metrics

    @cached_property
    def predictions(self) -> Predictions:
        """What is evaluated: the VLM's likeliest answers, or what its head says, without a VLM what the TSM says."""
        if self.likelihoods is None:
            return self._of(self.tsm_probabilities if self.head_probabilities is None else self.head_probabilities)
        sets = [labels for _, labels in self.candidates]
        scores = label_probabilities(self.likelihoods, sets, len(self.task.labels))
        chosen = self._sets(sets)[self.likelihoods.double().numpy().argmax(-1)]
        return predictions_of(self.targets, scores, self.task.multi_label, chosen)

    @cached_property
    def parsed(self) -> list[int | None]:
        """What each generated text was read as, an index into the task's answers."""
        answers = self.task.answers
        parser = AnswerParser([answer.text for answer in answers], [answer.synonyms for answer in answers])
        return [parser(text) for text in self.texts or ()]

    def _of(self, probabilities: Tensor) -> Predictions:
        return predictions_of(self.targets, probabilities, self.task.multi_label)

    def _figures(self, predictions: Predictions) -> dict[str, Any]:
        """Figures of label probabilities, with their intervals."""
        metrics = label_metrics(predictions)
        if self.task.ordinal and not self.task.multi_label:
            metrics |= grade_metrics(predictions)
        return {**metrics, "intervals": bootstrap_intervals(predictions)}

    def _controls(self) -> dict[str, Any]:
        """Figures of the TSM, and of the mean of its label probabilities and the VLM's."""
        tsm = self.tsm_probabilities
        if tsm is None:
            return {"tsm": None, "averaged": None}
        if self.likelihoods is None and self.head_probabilities is None:
            return {"tsm": self._figures(self.predictions), "averaged": None}
        mean = (tsm.double() + tsm.new_tensor(self.predictions.scores).double()) / 2
        return {"tsm": self._figures(self._of(tsm)), "averaged": self._figures(self._of(mean))}

    def _score_texts(self) -> dict[str, float]:
        """Figures of generated answers, and the share of them that is no answer of the set."""
        invalid = sum(answer is None for answer in self.parsed) / len(self.parsed)
        said = self._sets([() if answer is None else self.task.answers[answer].labels for answer in self.parsed])
        answered = Predictions(self.predictions.truth, said, self.task.multi_label)
        return {**set_metrics(answered), "invalid_rate": invalid}

    def _majority(self) -> dict[str, Any]:
        """Figures of always giving the training split's most frequent answer; without one, this split's."""
        counts = np.bincount(self.task.splits["train"]["answer"][:] or self.task.splits[self.split]["answer"][:])
        truth, labels = self.predictions.truth, self.task.answers[int(counts.argmax())].labels
        constant = Predictions(truth, self._sets([labels] * len(truth)), self.task.multi_label)
        return {**set_metrics(constant), "intervals": bootstrap_intervals(constant)}

    def _sets(self, answers: Sequence[Sequence[int]]) -> np.ndarray:
        """Label sets as bool `(N, labels)`."""
        sets = np.zeros((len(answers), len(self.task.labels)), dtype=bool)
        for row, labels in enumerate(answers):
            sets[row, list(labels)] = True
        return sets

    def _label_sets(self) -> dict[str, list[str]]:
        """The labels that each truth and each prediction of the CSV stands for."""
        found = np.unique(np.concatenate([self.predictions.truth, self.predictions.chosen]), axis=0)
        return {self._text(row): [self.task.labels[i] for i in np.flatnonzero(row)] for row in found}

    def _csv(self) -> str:
        """The CSV: sample id, truth, prediction, raw text and what it was read as, probability of every label."""
        own, answers = self.predictions, self.task.answers
        generated = ["text", "parsed"] if self.texts else []
        lines = [["id", "truth", "prediction", *generated, *(f"p({label})" for label in self.task.labels)]]
        said = [("" if answer is None else answers[answer].text) for answer in self.parsed]
        raw = list(zip(self.texts, said, strict=True)) if self.texts else [()] * len(own.truth)
        for row, name in enumerate(self.task.splits[self.split]["id"][:]):
            figures = [f"{p:.6f}" for p in own.scores[row]]
            lines.append([name, self._text(own.truth[row]), self._text(own.chosen[row]), *raw[row], *figures])
        return csv_text(lines)

    def _text(self, labels: np.ndarray) -> str:
        """The text of a label set `(labels,)`; a set that is no answer is written label by label."""
        found = tuple(np.flatnonzero(labels).tolist())
        return self._texts.get(found, "; ".join(self.task.labels[i] for i in found))

    @cached_property
    def _texts(self) -> dict[tuple[int, ...], str]:
        chosen_from = {tuple(labels): text for text, labels in self.candidates}
        return {**chosen_from, **{answer.labels: answer.text for answer in self.task.answers}}
