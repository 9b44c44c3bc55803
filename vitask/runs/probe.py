"""`vitask evaluate probe=...`: what tuning has cost a VLM in general ability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import track

from vitask.data.sources.probe import Probe, read_probe
from vitask.errors import UsageError, did_you_mean
from vitask.evaluation.retention import answer_prompts, retention_metrics
from vitask.files import csv_text
from vitask.runs.folder import RunFolder, Stopwatch, read_json, write_json, write_text
from vitask.runs.identity import is_head
from vitask.runs.tuned import load_tuned, pick_device
from vitask.vlm.load import TINY_FOLDER

if TYPE_CHECKING:
    from vitask.config.schema import Config, EvaluateConfig

EMBEDDED = "embedded"
STATES = ("untuned", "tuned")


def probe(run: RunFolder, config: Config, request: EvaluateConfig) -> dict[str, Any]:
    """Ask the VLM of a run the same before and after tuning, without exemplar, and write `eval/probe-<name>`.

    Returns:
        The metrics: `probe`, its `fingerprint`, `samples`, `tokens` (of the right answers); by `untuned` and `tuned`
        what `retention_metrics` says, and its `difference`.

    Raises:
        UsageError: the run gives no answers, or something was asked for that a probe does not have.
        VitaskError: the table or an image is missing or damaged.
    """
    _check(config, request)
    table = _table(request.probe)
    folder, fingerprint = run.path / "eval" / f"probe-{table.name}", table.fingerprint()
    if (folder / "metrics.json").is_file() and not request.overwrite:
        known = read_json(folder / "metrics.json")
        if known.get("fingerprint") == fingerprint:
            return known
    watch = Stopwatch()
    found, tokens, texts = _answers(run, config, request, table)
    metrics = {
        "run": run.path.name,
        "mode": "probe",
        "probe": table.name,
        "fingerprint": fingerprint,
        "samples": len(table),
        "tokens": tokens,
        **found,
        "difference": {key: found["tuned"][key] - value for key, value in found["untuned"].items()},
        "seconds": watch.seconds(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "predictions.csv", _predictions(table, texts))
    write_json(folder / "metrics.json", metrics)
    return metrics


def _check(config: Config, request: EvaluateConfig) -> None:
    """Raise a `UsageError` for what a probe cannot be combined with."""
    if config.stage.name == "tsm":
        raise UsageError(f"probe={request.probe}: {request.run} is the run of a TSM; give that of a VLM")
    if is_head(config):
        raise UsageError(f"probe={request.probe}: {request.run} has a linear head and gives no answers")
    others = {
        "exemplar=on": request.exemplar == "on",
        "data": request.data is not None or request.other_data is not None,
        "tsm": request.tsm is not None,
        "tuned=false": not request.tuned,
        "ranking": request.ranking,
        "contrast": request.contrast > 0,
    }
    if asked := [key for key, wanted in others.items() if wanted]:
        raise UsageError(
            f"probe={request.probe}: compares the VLM before and after tuning on the probe alone; leave {asked[0]} out"
        )


def _table(name: str) -> Probe:
    """Read the embedded probe, or a table."""
    if name == EMBEDDED:
        return read_probe(TINY_FOLDER / "probe.parquet", EMBEDDED)
    if not Path(name).expanduser().is_file():
        raise UsageError(f"probe={name}: no such table.{did_you_mean(name, [EMBEDDED])} Give {EMBEDDED}, or a file")
    return read_probe(name)


def _answers(
    run: RunFolder, config: Config, request: EvaluateConfig, table: Probe
) -> tuple[dict[str, dict[str, float]], int, dict[str, list[str]]]:
    """Return the figures by state, the number of tokens, and the given answers by state."""
    tuned = load_tuned(run, config, pick_device(request.device), exemplars=None)
    tokens: dict[str, list[Any]] = {state: [] for state in STATES}
    texts: dict[str, list[str]] = {state: [] for state in STATES}
    batches = -(-len(table) // request.batch_size)
    for batch in track(_batched(table.rows(), request.batch_size), description=f"probe {table.name}", total=batches):
        prompts = [tuned.prompter.prompt(image, prompt) for image, prompt, _ in batch]
        answers = [answer for _, _, answer in batch]
        found = {"tuned": answer_prompts(tuned.vlm, tuned.prompter, prompts, answers)}
        with tuned.vlm.untuned():
            found["untuned"] = answer_prompts(tuned.vlm, tuned.prompter, prompts, answers)
        for state, (own_tokens, own_texts) in found.items():
            tokens[state] += own_tokens
            texts[state] += own_texts
    figures = {state: retention_metrics(tokens[state], texts[state], table.answers) for state in STATES}
    return figures, sum(map(len, tokens["tuned"])), texts


def _batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def _predictions(table: Probe, texts: dict[str, list[str]]) -> str:
    """The CSV: prompt, right answer, and what was answered before and after tuning."""
    rows = zip(table.prompts, table.answers, *(texts[state] for state in STATES), strict=True)
    return csv_text([["prompt", "answer", *STATES], *rows])
