"""`vitask ablate`: a grid of runs over seeds, each trained once, evaluated, and put into one table."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vitask.config.compose import compose_config
from vitask.config.schema import EvaluateConfig
from vitask.errors import VitaskError
from vitask.runs.folder import RunFolder, write_json, write_text
from vitask.runs.identity import run_folder

if TYPE_CHECKING:
    from vitask.config.schema import AblationConfig, Config


def ablate(name: str, grid: AblationConfig, overrides: Sequence[str]) -> Path:
    """Run a grid and write `results.json` and `table.md`; runs that are finished are not repeated.

    Args:
        name: of the grid; names the folder `<out>/ablations/<name>`.
        grid: rows, seeds and conditions.
        overrides: further overrides of every run.

    Returns:
        The folder of the results.

    Raises:
        VitaskError: a run failed; its log is named. What is finished is kept.
    """
    from vitask.reporting.ablation import ablation_table

    configs = {seed: row_configs(grid, overrides, seed) for seed in grid.seeds}
    folder = Path(next(iter(configs[grid.seeds[0]].values())).out).expanduser() / "ablations" / name
    folder.mkdir(parents=True, exist_ok=True)
    results = {str(seed): rows for seed, rows in _run_all(grid, configs, folder).items()}
    write_json(folder / "results.json", {"grid": asdict(grid), "overrides": list(overrides), "results": results})
    write_text(folder / "table.md", ablation_table(asdict(grid), results) + "\n")
    return folder


def row_configs(grid: AblationConfig, overrides: Sequence[str], seed: int) -> dict[str, Config]:
    """Compose the run of every row for one seed; later overrides win."""
    return {
        row: compose_config("train", [*grid.base, *own, *overrides, f"seed={seed}"]) for row, own in grid.rows.items()
    }


def _run_all(grid: AblationConfig, configs: Mapping[int, Mapping[str, Config]], folder: Path) -> dict[int, Any]:
    """Give each seed to a worker process; rows of one seed share earlier stages, so they stay in one process."""
    context = multiprocessing.get_context("spawn")
    workers = min(grid.workers, len(configs))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        context.Manager() as manager,
        Progress(*columns) as progress,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(workers,)) as pool,
    ):
        done = manager.Queue()
        logs = {seed: folder / f"seed{seed}.log" for seed in configs}
        futures = {
            pool.submit(_run_seed, dict(rows), grid.split, grid.generate, str(logs[seed]), done): seed
            for seed, rows in configs.items()
        }
        bar = progress.add_task(f"{len(grid.rows)} rows, {len(configs)} seeds", total=sum(map(len, configs.values())))
        pending = set(futures)
        while pending:
            finished, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
            progress.update(bar, completed=done.qsize())
            for future in finished:
                if (error := future.exception()) is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise VitaskError(f"seed {futures[future]}: {error} (log: {logs[futures[future]]})") from error
        return {seed: future.result() for future, seed in futures.items()}


def _start_worker(workers: int) -> None:
    """Share the cores between the workers."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def _run_seed(
    rows: Mapping[str, Config], split: str, generate: bool, log: str, done: Any
) -> dict[str, list[dict[str, Any]]]:
    """Train and evaluate all rows of one seed, what they print going to a log file."""
    from vitask.runs.evaluate import evaluate
    from vitask.runs.train import train

    results = {}
    with Path(log).open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        for row, config in rows.items():
            run = RunFolder(run_folder(config))
            if not run.finished:
                train(config)
            request = EvaluateConfig(
                run=str(run.path),
                split=split,
                exemplar="both",
                data=None,
                tsm=None,
                generate=generate,
                batch_size=64,
                device=config.launch.device,
                overwrite=False,
            )
            results[row] = evaluate(request)
            done.put(row)
    return results
