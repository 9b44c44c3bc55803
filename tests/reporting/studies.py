"""Studies with everything that a report can show, made up, with texts that would break a careless page."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vitask.config.compose import compose_config
from vitask.config.schema import Config
from vitask.reporting.examples import ShownExamples, Thumbnail, choose_examples, counts
from vitask.reporting.study import Result, RunRecord, Study
from vitask.runs.identity import term_weights

HOSTILE = "<script>document.title='broken'</script>"
LABELS = (HOSTILE, "\"quoted\" & 'more'", "x|y \\ $z$ {w}_%", "</style></table><img src=x onerror=alert(1)>")
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
PAIRS = {"positive": [0.9, 0.8, 0.7, 0.95], "negative": [0.2, 0.4, 0.1, 0.3]}


def metrics(mode: str, seed: int = 0, labels: tuple[str, ...] = LABELS, **own: Any) -> dict[str, Any]:
    """Figures as `metrics.json` holds them, from random counts."""
    rng = np.random.default_rng([seed, len(mode)])
    confusion = rng.integers(0, 5, (len(labels), len(labels))) + 20 * np.eye(len(labels), dtype=int)
    accuracy = float(np.trace(confusion) / confusion.sum())
    return {
        "run": f"{mode}-seed{seed}",
        "split": "test",
        "mode": mode,
        "conditions": {f"label {HOSTILE}": "40 % & more"},
        "samples": int(confusion.sum()),
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "auc": 0.9,
        "ece": 0.1,
        "brier": 0.3,
        "log_likelihood": -0.5,
        "balanced_accuracy": accuracy,
        "intervals": {"accuracy": [accuracy - 0.05, accuracy + 0.05], "macro_f1": [None, None]},
        "per_class": {
            label: {"precision": None, "recall": 0.5, "f1": 0.6, "support": int(row.sum()), "auc": 0.9}
            for label, row in zip(labels, confusion, strict=True)
        },
        "confusion": confusion.tolist(),
        "reliability": [
            {"confidence": 0.5, "accuracy": 0.4, "count": 10},
            {"confidence": 0.9, "accuracy": 1.0, "count": 9},
        ],
        "generated": {"accuracy": accuracy, "macro_f1": accuracy, "invalid_rate": 0.25},
        "tsm": {"accuracy": 0.8 + seed / 100, "macro_f1": 0.7, "auc": None} if mode != "tsm" else None,
        "majority": {"accuracy": 0.3, "macro_f1": 0.1},
        "labels": list(labels),
        **({"pairs": PAIRS} if mode == "off" else {}),
        **own,
    }


@cache
def composed(*overrides: str) -> Config:
    return compose_config("train", list(overrides))


def run(row: str, seed: int, *overrides: str) -> RunRecord:
    """A finished run of these settings."""
    config = replace(composed(*overrides), seed=seed)
    log = [{"step": step, "loss": 3 / step, "vanilla": 1 / step, "lr": 0.01, "grad_norm": 1.0} for step in (10, 20, 30)]
    cost = {
        "seconds": 60.0,
        "peak_memory_bytes": 2**30,
        "flops": 1e12,
        "trained_parameters": 1000,
        "total_parameters": 10**6,
    }
    return RunRecord(
        name=f"{row}-seed{seed}",
        path=Path("runs") / HOSTILE / f"{row}-seed{seed}",
        stage=config.stage.name,
        seed=seed,
        data="digits",
        key=row,
        config={**asdict(config), "tag": HOSTILE},
        weights=term_weights(config),
        environment={
            "versions": {"torch": "2.14", HOSTILE: None},
            "python": "3.11",
            "platform": "here",
            "data": {"name": HOSTILE, "fingerprint": "0" * 64, "notes": {}},
        },
        summary={"steps": 30, "cost": cost},
        log=log,
    )


def study(seeds: tuple[int, ...] = (0, 1), rows: tuple[str, ...] = ("vanilla", f"+ RDA {HOSTILE}")) -> Study:
    """Two rows, the first without exemplar, over seeds."""
    runs = {
        row: [run("row", seed, "stage=crt", "objective=vanilla" if place == 0 else "objective=rda") for seed in seeds]
        for place, row in enumerate(rows)
    }
    results = [
        Result(row, seed, "test", mode, metrics(mode, seed), "digits")
        for place, row in enumerate(rows)
        for seed in seeds
        for mode in (("off",) if place == 0 else ("off", "on"))
    ]
    return Study(f"A study of {HOSTILE}", f"Text with {HOSTILE} & more.", results, runs)


def grid(found: Study) -> Study:
    """The same as a grid, with effects and a figure."""
    results: dict[str, dict[str, list[Any]]] = {}
    for result in found.results:
        results.setdefault(str(result.seed), {}).setdefault(result.row, []).append(dict(result.metrics))
    first, second = found.rows
    effect = {"of": [second], "over": [first], "metric": "accuracy", "expected": "up"}
    spec = {
        "title": found.title,
        "conditions": found.text,
        "references": [first],
        "columns": {"accuracy": "accuracy", f"free {HOSTILE}": "generated.accuracy"},
        "effects": {f"effect {HOSTILE}": effect},
        "figure": "bars",
        "shown": {HOSTILE: [first], "other": [second, "on"]},
    }
    return Study(found.title, found.text, found.results, found.runs, {"name": "mine", "grid": spec, "results": results})


def mixture() -> Study:
    """One row over two data sets."""
    sets = {
        name: metrics("off", 3, labels, tsm={"accuracy": 0.5})
        for name, labels in (("pathmnist", LABELS), (HOSTILE, ("a", "b")))
    }
    whole = {**metrics("off"), "sets": sets}
    del whole["per_class"], whole["confusion"], whole["reliability"], whole["pairs"]
    return Study("A mixture", "", [Result("vanilla", 0, "test", "off", whole, "mixture")])


def predictions(answers: str, truth: str = "aabb") -> list[dict[str, str]]:
    """Rows of `predictions.csv`, one a letter."""
    return [
        {
            "id": f"{place}.png",
            "truth": right,
            "prediction": said,
            "p(a)": "0.25",
            "p(b)": "0.6",
            "p(c)": "0.1",
            "p(d)": "0.05",
        }
        for place, (right, said) in enumerate(zip(truth, answers, strict=True))
    ]


def examples() -> ShownExamples:
    """One image of each kind, with hostile names."""
    found = {"off": predictions("bbba", "abab"), "on": predictions("aaab", "abab")}
    for rows in found.values():
        for row in rows:
            row |= {"id": f"{row['id']} {HOSTILE}", f"p({LABELS[1]})": "0.9"}
    chosen = choose_examples(found, 2)
    images = {each.id: Thumbnail(PIXEL, 1, 1) for several in chosen.values() for each in several}
    return ShownExamples(f"Seed 0, {HOSTILE}", counts(found), chosen, images, "A note & more.")


def by_row(table) -> dict[str, list[str]]:
    """A table as texts: the cells of each row by its name."""
    return {name: [" ".join(filter(None, each)) for each in cells] for name, cells in table.rows}
