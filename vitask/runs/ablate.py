"""`vitask ablate`: a grid of runs over seeds, each trained once, evaluated, and put into one table."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vitask.config.compose import compose_config
from vitask.config.embedded import check_embedded
from vitask.config.grid import EVERY_ROW
from vitask.errors import UsageError, VitaskError
from vitask.interruption import Stopped
from vitask.reporting.retention import by_mode
from vitask.runs.evaluation_request import folder_name, modes
from vitask.runs.folder import RunFolder, read_json, write_json, write_text
from vitask.runs.identity import at_stage, needs_exemplar, needs_tsm, run_folder
from vitask.runs.launch import require_ranks

if TYPE_CHECKING:
    from vitask.config.schema import AblationConfig, Config, EvaluateConfig, EvaluationSpec

RESULTS, TABLE, FIGURE = "results.json", "table.md", "figure.svg"
_done: Any = None
"""In a worker: how many rows all workers have done, a shared number."""


def ablate(name: str, grid: AblationConfig, overrides: Sequence[str]) -> Path:
    """Run a grid and write `results.json`, `table.md` and `figure.svg`; what is finished is not repeated.

    Args:
        name: of the grid; names the folder `<out>/ablations/<name>`.
        grid: rows, seeds and conditions.
        overrides: further overrides of every run.

    Returns:
        The folder of the results.

    Raises:
        UsageError: a row asks for what cannot be trained, or results of other settings are there; nothing has begun.
        VitaskError: a run failed; its log is named. What is finished is kept.
    """
    plans = {seed: [Plan(grid, row, overrides, seed) for row in grid.rows] for seed in grid.seeds}
    _check(plans[grid.seeds[0]])
    folder = Path(plans[grid.seeds[0]][0].config.out).expanduser() / "ablations" / name
    _check_earlier(folder, grid, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    results = {str(seed): rows for seed, rows in _run_all(plans, grid, folder).items()}
    write_json(folder / RESULTS, {"name": name, "grid": asdict(grid), "overrides": list(overrides), "results": results})
    write_results(folder)
    return folder


def write_results(folder: Path) -> None:
    """Write the table and the figure of a grid from its `results.json`."""
    from vitask.reporting.ablation import ablation_figure, ablation_table

    found = read_json(folder / RESULTS)
    write_text(folder / TABLE, ablation_table(found["grid"], found["results"]) + "\n")
    figure = ablation_figure(found["grid"], found["results"])
    if figure is not None:
        write_text(folder / FIGURE, figure)


@dataclass
class Plan:
    """One row of a grid for one seed: its run, and how that is evaluated, composed when they are first asked for.

    Args:
        grid: the grid.
        row: the name of its row.
        overrides: of every run; they win over the grid's, but for which data an evaluation is on.
        seed: of the run.
    """

    grid: AblationConfig
    row: str
    overrides: Sequence[str]
    seed: int

    @cached_property
    def config(self) -> Config:
        """Of the run."""
        return compose_config("train", self._own)

    @cached_property
    def evaluations(self) -> dict[str, tuple[EvaluationSpec, Config | None]]:
        """By name, what is asked for, and the configuration of other data that it is on."""
        return {
            name: (spec, compose_config("train", [*self._own, *spec.on]) if spec.on else None)
            for name, spec in self.grid.evaluations.items()
            if spec.rows is None or self.row in spec.rows
        }

    @property
    def _own(self) -> list[str]:
        embedded = [*self.grid.embedded.get(EVERY_ROW, ()), *self.grid.embedded.get(self.row, ())]
        return [*self.grid.base, *embedded, *self.grid.rows[self.row], *self.overrides, f"seed={self.seed}"]

    def run(self) -> list[dict[str, Any]]:
        """Train what is missing and return the metrics of every evaluation and mode."""
        train_missing(self.config)
        return [
            {"evaluation": name, **metrics}
            for name, (spec, other) in self.evaluations.items()
            for metrics in self._evaluate(spec, other)
        ]

    def request(self, spec: EvaluationSpec) -> EvaluateConfig:
        """Compose what an evaluation on the run's own data asks for."""
        options = [f"split={self.grid.split}", f"generate={self.grid.generate}", f"device={self.config.launch.device}"]
        return compose_config("evaluate", [f"run={run_folder(self.config)}", *options, *spec.options])

    def _evaluate(self, spec: EvaluationSpec, other: Config | None) -> list[dict[str, Any]]:
        from vitask.runs.evaluate import evaluate

        request = self.request(spec)
        if other is not None:
            request = replace(request, other_data=other.data)
            if spec.plug and needs_exemplar(self.config):
                tsm = at_stage(other, "tsm")
                train_missing(tsm)
                request = replace(request, tsm=str(run_folder(tsm)))
        found = evaluate(request)
        if request.probe is not None:
            return by_mode(found[0])
        return [{**metrics, **_pairs(request, metrics)} for metrics in found]


def _pairs(request: EvaluateConfig, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The probabilities behind right and wrong images, where images were ranked, for a figure of their densities."""
    if not request.ranking or "ranking" not in metrics:
        return {}
    return {"pairs": read_json(Path(request.run) / "eval" / folder_name(request, metrics["mode"]) / "ranking.json")}


def train_missing(config: Config) -> None:
    """Train a run unless it is finished."""
    from vitask.runs.train import train

    if not RunFolder(run_folder(config)).finished:
        train(config)


def _check(plans: Sequence[Plan]) -> None:
    """Raise a `UsageError` that names the row whose run, or an evaluation of it, would be refused."""
    from vitask.runs.train import planned_stages

    for plan in plans:
        try:
            if plan.config.stage.name not in plan.config.stage.pipeline:
                raise UsageError(f"stage={plan.config.stage.name}: a row of a grid is one run; say which, stage=crt")
            require_ranks(plan.config.launch)
            planned_stages(plan.config)
            for spec, other in plan.evaluations.values():
                check_embedded((other or plan.config).data)
                request = plan.request(spec)
                if request.probe is None:
                    modes(request, plan.config)
        except UsageError as error:
            raise UsageError(f"row '{plan.row}': {error}") from error


def _check_earlier(folder: Path, grid: AblationConfig, overrides: Sequence[str]) -> None:
    """Raise a `UsageError` if the folder has the results of other settings, which would be lost.

    Those of other seeds are not: the runs are there, so that a grid may be extended.
    """
    if not (folder / RESULTS).is_file():
        return
    earlier = read_json(folder / RESULTS)
    known, rows = _settings(earlier.get("overrides", [])), earlier.get("grid", {}).get("rows", {})
    swept = any("=" in row for row in [*rows, *grid.rows]) and not rows.keys() <= grid.rows.keys()
    if swept or known != _settings(overrides):
        settings = " ".join(f"{key}={value}" for key, value in known.items()) or "no settings of its own"
        raise UsageError(
            f"{folder}: has the results of {', '.join(rows) if swept else settings}, which these would replace; "
            "rename or remove that folder (the runs are elsewhere and stay), or give out=..."
        )


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by key, without those that say where files go."""
    given = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    return {key: value for key, value in given.items() if key not in ("out", "cache")}


def _run_all(plans: Mapping[int, Sequence[Plan]], grid: AblationConfig, folder: Path) -> dict[int, Any]:
    """Give each seed to a worker process; rows of one seed share earlier stages, so they stay in one process."""
    context = multiprocessing.get_context("spawn")
    workers, done = min(grid.workers, len(plans)), context.Value("i", 0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    start, others = (workers, os.getpid(), done), set(multiprocessing.active_children())
    with (
        Progress(*columns) as progress,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=start) as pool,
    ):
        logs = {seed: folder / f"seed{seed}.log" for seed in plans}
        futures = {pool.submit(_run_seed, rows, str(logs[seed])): seed for seed, rows in plans.items()}
        bar = progress.add_task(f"{len(grid.rows)} rows, {len(plans)} seeds", total=sum(map(len, plans.values())))
        pending = set(futures)
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
                progress.update(bar, completed=done.value)
                for future in finished:
                    if (error := future.exception()) is not None:
                        seed = futures[future]
                        raise VitaskError(f"seed {seed}: {error} (log: {logs[seed]})") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        return {seed: future.result() for future, seed in futures.items()}


def _start_worker(workers: int, parent: int, done: Any) -> None:
    """Share the cores between the workers, count the rows that are done, and end with the parent however it ends."""
    global _done
    import torch

    _done = done
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Stop as on SIGTERM, which saves what trains, and for good if that takes long."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60.0)
    os._exit(1)


def _run_seed(rows: Sequence[Plan], log: str) -> dict[str, list[dict[str, Any]]]:
    """Train and evaluate all rows of one seed, what they print going to a log file.

    TSMs come first, so that their figures stand beside every row, those that need none too. A worker that is told to
    stop ends, so that it does not go on with the next seed.
    """
    try:
        return _results(rows, log)
    except (Stopped, KeyboardInterrupt):
        os._exit(1)


def _results(rows: Sequence[Plan], log: str) -> dict[str, list[dict[str, Any]]]:
    results = {}
    with Path(log).open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        for plan in rows:
            if needs_tsm(plan.config):
                train_missing(at_stage(plan.config, "tsm"))
        for plan in rows:
            results[plan.row] = plan.run()
            with _done.get_lock():
                _done.value += 1
    return results
