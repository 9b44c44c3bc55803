"""What goes wrong in a run without ending it, each kind said once. Losses that are not finite end the run: see `loop`.

The thresholds of gradient norms and teachers were held against every tenth step of runs of the embedded default (222
runs, of them 39 with a teacher): none of them fires.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WINDOW = 50
"""Steps that a figure is averaged over: enough for the noise of small batches to even out."""
ENOUGH = 10
"""Steps from which a share or a median says something."""
SPIKE, IN_A_ROW = 10.0, 3
"""A gradient norm of so many times the running median, in so many steps one after the other: a single hard batch gave
up to 18 times, three in a row never above 3."""
ALONE = 0.5
"""Share of samples without a negative image: above it, CRT leaves out more samples than it takes."""
WAITING, WORTHWHILE = 0.5, 30.0
"""Share of the time that goes into waiting for data, and the seconds of such waiting from which it is worth mending."""
SAME, MOST = 0.98, 0.9
"""Share of the answers that begin alike, and the largest share of the right ones that would not explain it."""
SKIPPED = 10
"""Steps one after the other that fp16 skips: its scale halves with each, so a healthy run skips a few at its start."""


class Alerts:
    """Watches the steps of a run.

    Args:
        workers: data-loading processes.
        steps: of the whole run; answers are watched in its second half, as every model begins with one for all.

    Attributes:
        raised: `{"step", "warning"}` of what was said so far.

    Example:
        >>> alerts = Alerts(workers=0)
        >>> alerts.observe(1, {"grad_norm": 0.5}, waited=0.01, took=0.2)
        []
    """

    def __init__(self, workers: int = 0, steps: int = 0) -> None:
        self.workers = workers
        self.steps = steps
        self.raised: list[dict[str, Any]] = []
        self._said: set[str] = set()
        self._kept: dict[str, deque[float]] = {}
        self._answers: deque[Sequence[Sequence[int]]] = deque(maxlen=WINDOW)
        self._high = self._skipped = 0

    def observe(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        waited: float,
        took: float,
        skipped: bool = False,
        answers: Sequence[Sequence[int]] | None = None,
    ) -> list[str]:
        """Look at one step and return what is to be said now, mostly nothing.

        Args:
            step: its number.
            values: what the loop logs of it.
            waited: seconds until its data was there.
            took: seconds of the whole step, waiting included.
            skipped: whether fp16's scaler left the weights as they were.
            answers: how often each answer was given and was right, as `AnswerCounts` says.
        """
        checks: dict[str, Callable[[], str | None]] = {
            "skipped": lambda: self._skips(skipped),
            "gradient": lambda: self._explodes(values["grad_norm"], skipped),
            "teacher": lambda: self._teacher(values),
            "negatives": lambda: self._alone(values),
            "images": lambda: self._unranked(values),
            "data": lambda: self._starves(waited, took),
            "answers": lambda: self._collapses(step, answers),
        }
        found = {kind: text for kind, check in checks.items() if (text := check()) and kind not in self._said}
        self._said |= found.keys()
        self.raised += [{"step": step, "warning": text} for text in found.values()]
        return list(found.values())

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        kept = {name: list(values) for name, values in self._kept.items()}
        return {"raised": self.raised, "said": sorted(self._said), "kept": kept, "answers": list(self._answers),
                "high": self._high, "skipped": self._skipped}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where an interrupted run was saved."""
        self.raised, self._said = list(state["raised"]), set(state["said"])
        self._kept = {name: deque(values, WINDOW) for name, values in state["kept"].items()}
        self._answers = deque(state["answers"], WINDOW)
        self._high, self._skipped = state["high"], state["skipped"]

    def _window(self, name: str, value: float) -> deque[float]:
        window = self._kept.setdefault(name, deque(maxlen=WINDOW))
        window.append(value)
        return window

    def _skips(self, skipped: bool) -> str | None:
        self._skipped = self._skipped + 1 if skipped else 0
        if self._skipped < SKIPPED:
            return None
        return (
            f"the gradient was not finite in {self._skipped} steps one after the other, and fp16 skipped them all: "
            "nothing is learnt; use launch.precision=bf16 or no"
        )

    def _explodes(self, norm: float, skipped: bool) -> str | None:
        if skipped:
            return None
        earlier = self._kept.get("gradient", ())
        usual = statistics.median(earlier) if len(earlier) >= ENOUGH else None
        self._high = self._high + 1 if usual is not None and norm > SPIKE * usual else 0
        self._window("gradient", norm)
        if self._high < IN_A_ROW:
            return None
        return (
            f"the gradient norm is {norm:.3g}, its median over the steps before {usual:.3g}: training runs away; "
            "lower optim.lr, or clip at a smaller norm with optim.clip"
        )

    def _teacher(self, values: Mapping[str, float]) -> str | None:
        """RDA's teacher is the branch with the exemplar, whose loss is `ep`; its student's is `vanilla`."""
        if not {"rda", "vanilla", "ep"} <= values.keys():
            return None
        student, teacher = self._window("student", values["vanilla"]), self._window("teacher", values["ep"])
        own, taught = statistics.mean(teacher), statistics.mean(student)
        if len(teacher) < WINDOW or own <= taught:
            return None
        return (
            f"RDA's teacher is worse than its student: over {WINDOW} steps the right response costs {own:.3f} with the "
            f"exemplar and {taught:.3f} without; a TSM has to be better than the VLM: train it longer, or lower "
            "objective.alpha"
        )

    def _alone(self, values: Mapping[str, float]) -> str | None:
        if "without_negative" not in values:
            return None
        window = self._window("alone", values["without_negative"])
        share = statistics.mean(window)
        if len(window) < ENOUGH or share <= ALONE:
            return None
        return (
            f"{share:.0%} of the samples have no negative image, so CRT leaves them out; "
            "larger batches, or objective.crt.negatives=dataset, find more"
        )

    def _unranked(self, values: Mapping[str, float]) -> str | None:
        """Image ranking is never quite 0 where an image of another label is there to be ranked against."""
        if "image_ranking" not in values:
            return None
        window = self._window("ranked", values["image_ranking"])
        share = sum(value == 0 for value in window) / len(window)
        if len(window) < ENOUGH or share <= ALONE:
            return None
        return (
            f"{share:.0%} of the steps had no image with another label to rank against in the same forward; raise "
            "optim.micro_batch_size, or leave out objective.image_ranking"
        )

    def _starves(self, waited: float, took: float) -> str | None:
        waits, times = self._window("waited", waited), self._window("took", took)
        waiting, whole = sum(waits), sum(times)
        if len(times) < ENOUGH or waiting < WORTHWHILE or waiting <= WAITING * whole:
            return None
        return (
            f"{waiting / whole:.0%} of the time of the last {len(times)} steps went into waiting for data; raise "
            f"launch.workers (now {self.workers}), or keep image features with vlm.feature_cache_gb"
        )

    def _collapses(self, step: int, answers: Sequence[Sequence[int]] | None) -> str | None:
        if answers is None or step <= self.steps / 2:
            return None
        self._answers.append(answers)
        given, right = (
            [sum(counts) for counts in zip(*rows, strict=True)] for rows in zip(*self._answers, strict=True)
        )
        commonest, total = given.index(max(given)), sum(right)
        share, truth = given[commonest] / total, right[commonest] / total
        if len(self._answers) < WINDOW or share < SAME or truth > MOST:
            return None
        return (
            f"{share:.0%} of the answers of the last {WINDOW} steps begin alike, which is right for {truth:.0%}: the "
            "model has collapsed to one answer; lower optim.lr, or show rare classes more often with "
            "optim.sampling.classes=0"
        )
