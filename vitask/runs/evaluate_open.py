"""Open-ended answers, scored: exact match and token F1 of free answers, likelihoods of right and rival responses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitask.data import comparable, instruction_ids, token_f1
from vitask.evaluation.open_ended import right_places
from vitask.evaluation.uncertainty import Parts, bootstrap_ratios
from vitask.files import csv_text
from vitask.runs.folder import write_json, write_text

if TYPE_CHECKING:
    from vitask.data import TaskData

MOST_INSTRUCTIONS = 50


class OpenEvaluation:
    """What was answered on one split of an open-ended task, beside the right responses.

    Args:
        task: the data.
        split: of it.
        rivals: for each row the numbers of the answers that its own is ranked among.
        asked: how many rivals were asked for.
        scores: for each row the log-likelihood of its own response, then those of the rivals.
        tokens: how many tokens the own response has, with the one that ends it.
        texts: free answers, if any.
    """

    def __init__(
        self,
        task: TaskData,
        split: str,
        rivals: Sequence[Sequence[int]],
        asked: int,
        scores: Sequence[Sequence[float]],
        tokens: Sequence[int],
        texts: Sequence[str],
    ) -> None:
        self.rows = task.splits[split]
        self.train = task.splits["train"]
        self.answers = [answer.text for answer in task.answers]
        self.truths = [self.answers[answer] for answer in self.rows["answer"]]
        self.rivals, self.asked = rivals, asked
        self.own = np.array([own for own, *_ in scores])
        self.places = right_places(scores)
        self.tokens = np.array(tokens)
        self.texts = list(texts)

    def metrics(self) -> dict[str, Any]:
        """Return the figures, those of the commonest response to each instruction among them.

        Intervals are over images, as the questions about one are not independent.
        """
        ranked = ~np.isnan(self.places)
        figures = {
            "rank_accuracy": _mean(self.places == 1, ranked),
            "mrr": _mean(1 / np.where(ranked, self.places, 1), ranked),
            "perplexity": (-self.own, self.tokens.astype(float)),
        }
        counts = np.array([len(own) for own in self.rivals])[ranked]
        return {
            "samples": len(self.rows),
            "images": len(set(self.rows["picture"])),
            **self._figures(figures),
            "ranked": int(ranked.sum()),
            "rivals": self.asked,
            "chance": float(np.mean(1 / (1 + counts))) if len(counts) else None,
            **({"generated": self._figures(self._of_texts(self.texts))} if self.texts else {}),
            "majority": self._figures(self._of_texts(self._commonest())),
            "by_instruction": self._by_instruction(figures),
        }

    def write(self, folder: Path, frame: dict[str, Any]) -> dict[str, Any]:
        """Write `predictions.csv` and, last, `metrics.json` with what frames the figures; return the metrics."""
        metrics = {**frame, **self.metrics()}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "predictions.csv", self._csv())
        write_json(folder / "metrics.json", metrics)
        return metrics

    def _of_texts(self, texts: Sequence[str]) -> Parts:
        pairs = list(zip(texts, self.truths, strict=True))
        return {
            "exact_match": _mean([comparable(text) == comparable(truth) for text, truth in pairs]),
            "token_f1": _mean([token_f1(text, truth) for text, truth in pairs]),
        }

    def _figures(self, parts: Parts) -> dict[str, Any]:
        """Figures with their intervals."""
        picture = np.unique(self.rows["picture"], return_inverse=True)[1]
        by_image = {name: tuple(np.bincount(picture, part) for part in pair) for name, pair in parts.items()}
        intervals = {name: [_shown(name, end) for end in ends] for name, ends in bootstrap_ratios(by_image).items()}
        return {**_values(parts), "intervals": intervals}

    def _commonest(self) -> list[str]:
        """The training split's commonest response to each row's instruction; to one it does not have, of all."""
        by_instruction: dict[str, Counter[str]] = {}
        rows = self.train if len(self.train) else self.rows
        for asked, answer in zip(rows["instruction"], rows["answer"], strict=True):
            by_instruction.setdefault(asked, Counter())[self.answers[answer]] += 1
        best = {asked: counts.most_common(1)[0][0] for asked, counts in by_instruction.items()}
        overall = sum(by_instruction.values(), Counter()).most_common(1)[0][0]
        return [best.get(asked, overall) for asked in self.rows["instruction"]]

    def _by_instruction(self, figures: Parts) -> dict[str, dict[str, Any]]:
        """The figures of each instruction alone, the commonest first; of many the first 50."""
        parts = {**figures, **(self._of_texts(self.texts) if self.texts else {})}
        asked = np.array(self.rows["instruction"])
        found = {}
        for instruction, count in Counter(asked.tolist()).most_common(MOST_INSTRUCTIONS):
            own = asked == instruction
            values = _values({name: (above[own], below[own]) for name, (above, below) in parts.items()})
            found[instruction] = {"samples": count, **values}
        return found

    def _csv(self) -> str:
        """The CSV: what was asked of which image, what is right, its likelihood and place, and what was answered."""
        generated = ["text", "exact_match", "token_f1"] if self.texts else []
        read = ["log_likelihood", "tokens", "place", "rivals"]
        lines = [["id", "image", "instruction", "response", *read, *generated]]
        right = self._of_texts(self.texts) if self.texts else {}
        columns = (self.rows[name] for name in ("id", "picture", "instruction"))
        for row, names in enumerate(zip(*columns, strict=True)):
            place = "" if math.isnan(self.places[row]) else f"{self.places[row]:g}"
            said = [self.texts[row], *(f"{above[row]:g}" for above, _ in right.values())] if self.texts else []
            figures = [f"{self.own[row]:.6f}", self.tokens[row], place, len(self.rivals[row])]
            lines.append([*names, self.truths[row], *figures, *said])
        return csv_text(lines)


def draw_rivals(task: TaskData, split: str, count: int, seed: int) -> list[list[int]]:
    """Draw for each row other responses to the same instruction, from the split: different ones, up to `count`.

    Responses that are the same up to case, spaces and punctuation count as one.
    """
    answers, asked = task.splits[split]["answer"], instruction_ids(task, split).tolist()
    texts = {answer: comparable(task.answers[answer].text) for answer in set(answers)}
    pools: dict[int, dict[str, int]] = {}
    for instruction, answer in zip(asked, answers, strict=True):
        pools.setdefault(instruction, {}).setdefault(texts[answer], answer)
    drawn = []
    for row, (instruction, answer) in enumerate(zip(asked, answers, strict=True)):
        others = [other for text, other in pools[instruction].items() if text != texts[answer]]
        order = np.random.default_rng([seed, row]).permutation(len(others))[:count]
        drawn.append([others[place] for place in sorted(order)])
    return drawn


def _mean(values: Any, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A mean over samples as a ratio of sums, see `bootstrap_ratios`."""
    values = np.asarray(values, dtype=float)
    below = np.ones(len(values)) if among is None else among.astype(float)
    return np.where(below > 0, values, 0.0), below


def _values(parts: Parts) -> dict[str, float | None]:
    found = {name: above.sum() / below.sum() if below.sum() else math.nan for name, (above, below) in parts.items()}
    return {name: _shown(name, float(value)) for name, value in found.items()}


def _shown(name: str, value: float) -> float:
    """Perplexity is the exponential of a mean, which moves no percentile past another."""
    return math.exp(min(value, 700.0)) if name == "perplexity" else value
