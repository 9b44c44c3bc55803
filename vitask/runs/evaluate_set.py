"""One data set's answers, scored: figures for `metrics.json` and the rows of `predictions.csv`."""

from __future__ import annotations

import csv
import io
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
        likelihoods: of the candidate answers `(N, candidates)`, from a VLM; without them the TSM is what is evaluated.
        texts: generated answers, if any.
    """

    def __init__(
        self,
        task: TaskData,
        split: str,
        tsm_probabilities: Tensor | None,
        likelihoods: Tensor | None = None,
        texts: list[str] | None = None,
    ) -> None:
        self.task = task
        self.split = split
        self.targets = label_targets(task, split)
        self.tsm_probabilities = tsm_probabilities
        self.likelihoods = likelihoods
        self.texts = texts
        if likelihoods is None:
            self.scores = tsm_probabilities
        else:
            candidates = [answer.labels for answer in task.answers[: task.candidates]]
            self.scores = label_probabilities(likelihoods, candidates, len(task.labels))

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
            metrics |= set_metrics(self.targets.numpy() > 0.5, self._sets(likelihoods.argmax(-1).tolist()))
        return metrics

    def _score_texts(self, texts: list[str]) -> dict[str, float]:
        """Figures of generated answers, and the share of them that is no answer of the set."""
        parsed = self._parse(texts)
        truth = self._sets(self.task.splits[self.split]["answer"][:])
        invalid = sum(answer is None for answer in parsed) / len(parsed)
        return {**set_metrics(truth, self._sets(parsed)), "invalid_rate": invalid}

    def _parse(self, texts: list[str]) -> list[int | None]:
        answers = self.task.answers
        parser = AnswerParser([answer.text for answer in answers], [answer.synonyms for answer in answers])
        return [parser(text) for text in texts]

    def _majority(self) -> dict[str, float]:
        """Figures of always giving the training split's most frequent answer; without one, this split's."""
        counts = np.bincount(self.task.splits["train"]["answer"][:] or self.task.splits[self.split]["answer"][:])
        truth = self._sets(self.task.splits[self.split]["answer"][:])
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
            return self.task.answers[int(likelihoods.argmax())].text
        if self.task.multi_label:
            return "; ".join(self.task.labels[i] for i, p in enumerate(probabilities_row) if p > 0.5)
        return self.task.labels[int(np.argmax(probabilities_row))]
