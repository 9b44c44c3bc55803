"""One data set's answers, scored: figures for `metrics.json` and the rows of `predictions.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.evaluation.closed_set import label_probabilities
from vitask.evaluation.metrics import grade_metrics, label_metrics, set_metrics
from vitask.evaluation.parsing import AnswerParser
from vitask.runs.folder import write_json, write_text
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
    """

    def __init__(
        self,
        task: TaskData,
        split: str,
        tsm_probabilities: Tensor | None,
        candidates: Sequence[tuple[str, tuple[int, ...]]] = (),
        likelihoods: Tensor | None = None,
        texts: list[str] | None = None,
    ) -> None:
        self.task = task
        self.split = split
        self.targets = label_targets(task, split)
        self.tsm_probabilities = tsm_probabilities
        self.candidates = candidates
        self.likelihoods = likelihoods
        self.texts = texts
        if likelihoods is None:
            self.scores = tsm_probabilities
        else:
            self.scores = label_probabilities(likelihoods, [labels for _, labels in candidates], len(task.labels))

    def metrics(self) -> dict[str, Any]:
        """Return the figures, those of the TSM and the majority class among them."""
        tsm = self.tsm_probabilities
        return {
            "samples": len(self.targets),
            **self._score(self.scores, self.likelihoods),
            **({"generated": self._score_texts(self.texts)} if self.texts else {}),
            "tsm": label_metrics(self.targets, tsm, self.task.multi_label) if tsm is not None else None,
            "majority": self._majority(),
            "labels": list(self.task.labels),
        }

    def write(self, folder: Path, frame: dict[str, Any]) -> dict[str, Any]:
        """Write `predictions.csv` and, last, `metrics.json` with what frames the figures; return the metrics."""
        metrics = {**frame, **self.metrics()}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "predictions.csv", self._predictions(self.scores, self.likelihoods, self.texts))
        write_json(folder / "metrics.json", metrics)
        return metrics

    def _score(self, scores: Tensor, likelihoods: Tensor | None) -> dict[str, float]:
        """Figures of label probabilities; a multi-label VLM answers with its likeliest label set."""
        metrics = label_metrics(self.targets, scores, self.task.multi_label)
        if self.task.ordinal and not self.task.multi_label:
            metrics |= grade_metrics(self.targets.numpy(), scores.argmax(-1).numpy())
        if self.task.multi_label and likelihoods is not None:
            chosen = [self.candidates[place][1] for place in likelihoods.argmax(-1).tolist()]
            metrics |= set_metrics(self.targets.numpy() > 0.5, self._sets(chosen))
        return metrics

    def _score_texts(self, texts: list[str]) -> dict[str, float]:
        """Figures of generated answers, and the share of them that is no answer of the set."""
        parsed = self._parse(texts)
        invalid = sum(answer is None for answer in parsed) / len(parsed)
        said = self._sets([() if answer is None else self.task.answers[answer].labels for answer in parsed])
        return {**set_metrics(self._truth(), said), "invalid_rate": invalid}

    def _parse(self, texts: list[str]) -> list[int | None]:
        answers = self.task.answers
        parser = AnswerParser([answer.text for answer in answers], [answer.synonyms for answer in answers])
        return [parser(text) for text in texts]

    def _majority(self) -> dict[str, float]:
        """Figures of always giving the training split's most frequent answer; without one, this split's."""
        counts = np.bincount(self.task.splits["train"]["answer"][:] or self.task.splits[self.split]["answer"][:])
        truth, labels = self._truth(), self.task.answers[int(counts.argmax())].labels
        return set_metrics(truth, self._sets([labels] * len(truth)))

    def _truth(self) -> np.ndarray:
        return self._sets([self.task.answers[answer].labels for answer in self.task.splits[self.split]["answer"][:]])

    def _sets(self, answers: Sequence[Sequence[int]]) -> np.ndarray:
        """Label sets as bool `(N, labels)`."""
        sets = np.zeros((len(answers), len(self.task.labels)), dtype=bool)
        for row, labels in enumerate(answers):
            sets[row, list(labels)] = True
        return sets

    def _predictions(self, scores: Tensor, likelihoods: Tensor | None, texts: list[str] | None) -> str:
        """The CSV: sample id, truth, prediction, raw text and what it was read as, probability of every label."""
        split, answers = self.task.splits[self.split], self.task.answers
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
            return self.candidates[int(likelihoods.argmax())][0]
        if self.task.multi_label:
            return "; ".join(self.task.labels[i] for i, p in enumerate(probabilities_row) if p > 0.5)
        return self.task.labels[int(np.argmax(probabilities_row))]
