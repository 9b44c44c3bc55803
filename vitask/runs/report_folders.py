"""From folders to what a report is about: finished runs and grids, read from disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError, VitaskError
from vitask.reporting.missing import Note
from vitask.reporting.open_ended import flattened, is_open
from vitask.reporting.study import Result, RunRecord
from vitask.runs.folder import CONFIG, ENVIRONMENT, RunFolder, read_json
from vitask.runs.identity import at_stage, data_name, identity, needs_tsm, run_folder, term_weights

if TYPE_CHECKING:
    from vitask.config.schema import Config

GRID, METRICS, PAIRS = "results.json", "metrics.json", "ranking.json"
MODES = ("tsm", "off", "on", "untuned")
MOST_NAMED = 3


class Shelf:
    """Runs by folder, each read once; what cannot be read becomes a note.

    Args:
        taken: the folders that were given, as they were given; so they are named to the reader.
    """

    def __init__(self, taken: Iterable[Path] = ()) -> None:
        self._names = {path.resolve(): path for path in taken}
        self._records: dict[Path, RunRecord | None] = {}
        self._left_out: dict[str, list[str]] = {}

    @property
    def notes(self) -> list[Note]:
        """What was left out, and why; a reason that holds for many is said once."""
        return [
            Note(f"{', '.join(names[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}: {reason}")
            for reason, names in self._left_out.items()
            for more in (len(names) - MOST_NAMED,)
        ]

    def leave_out(self, what: Path, reason: str) -> None:
        """Remember that something is left out."""
        self._left_out.setdefault(reason, []).append(str(what))

    def run(self, folder: Path) -> RunRecord | None:
        """Return a finished run; none if it is not finished or cannot be read."""
        key = folder.resolve()
        if key not in self._records:
            self._records[key] = self._read(self._names.get(key, folder))
        return self._records[key]

    def _read(self, folder: Path) -> RunRecord | None:
        run = RunFolder(folder)
        if not run.finished:
            self.leave_out(folder, "not finished; the command that began it resumes it.")
            return None
        try:
            config = run.config()
            before = self._before(config, folder)
            tsm = RunFolder(folder.parent / run_folder(at_stage(config, "tsm")).name)
            return RunRecord(
                name=folder.resolve().name,
                path=folder,
                stage=config.stage.name,
                seed=config.seed,
                data=data_name(config),
                key=_key(config),
                config=asdict(config),
                weights=term_weights(config),
                environment=run.environment(),
                summary=run.summary(),
                log=_read_log(folder / "log.jsonl"),
                probes=list(self._probes(folder)),
                earlier=(*before.earlier, before) if before else (),
                tsm=tsm.path,
                tsm_cost=self._cost(tsm) if needs_tsm(config) and tsm.finished else {},
            )
        except VitaskError as error:
            self.leave_out(folder, f"left out, {str(error).removeprefix(f'{folder}/')}.")
            return None

    def _cost(self, tsm: RunFolder) -> dict[str, Any]:
        """What training a TSM cost; the runs that it belongs to do not suffer if that cannot be read."""
        try:
            return tsm.summary().get("cost", {})
        except VitaskError as error:
            self.leave_out(tsm.path, f"its cost is left out, {str(error).removeprefix(f'{tsm.path}/')}.")
            return {}

    def _probes(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Yield what a run's probes found; one that is damaged is left out."""
        for path in sorted(folder.glob(f"eval/probe-*/{METRICS}")):
            try:
                yield read_json(path)
            except VitaskError as error:
                self.leave_out(path.parent, f"left out, {str(error).removeprefix(f'{path.parent}/')}.")

    def _before(self, config: Config, folder: Path) -> RunRecord | None:
        """The run that a stage starts from, if it is still beside it."""
        if not config.stage.init_from:
            return None
        earlier = folder.parent / run_folder(at_stage(config, config.stage.init_from)).name
        return self.run(earlier) if RunFolder(earlier).finished else None


def find(folders: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Return the run folders and the grid folders that are, or are inside, the given folders.

    Raises:
        UsageError: a folder is not there, or holds neither.
    """
    runs: dict[Path, None] = {}
    grids: dict[Path, None] = {}
    for name in folders:
        top = Path(name).expanduser()
        if not top.is_dir():
            raise UsageError(f"{name}: no such folder; give folders that vitask train or vitask ablate wrote")
        found = list(_walk(top))
        if not found:
            raise UsageError(f"{name}: neither a run nor a grid is in there ({CONFIG}, {GRID})")
        for folder in found:
            (grids if (folder / GRID).is_file() else runs)[folder] = None
    return list(runs), list(grids)


def run_results(record: RunRecord, row: str, shelf: Shelf) -> Iterator[Result]:
    """Yield what was found by every evaluation of a run; one that is damaged is left out, with a note."""
    for path in sorted((record.path / "eval").glob(f"*/{METRICS}")):
        try:
            metrics = _with_pairs(read_json(path), path.parent)
        except VitaskError as error:
            shelf.leave_out(path.parent, f"left out, {str(error).removeprefix(f'{path.parent}/')}.")
            continue
        if metrics.get("mode") in MODES:
            words = path.parent.name.split("_")
            evaluation = ", ".join([metrics.get("split", "test"), *(word.replace("-", " ", 1) for word in words[1:])])
            other = next((word for word in words if word.startswith("data-")), None)
            data = other.split("-")[1] if other else record.data
            plugged = any(word.startswith("tsm-") for word in words)
            yield Result(row, record.seed, evaluation, metrics["mode"], metrics, data, path.parent, plugged)


def grid_results(found: Mapping[str, Any], runs: Mapping[str, RunRecord]) -> Iterator[Result]:
    """Yield what a grid found, but for probes, which are read from the runs (`RunRecord.probes`).

    Args:
        found: `results.json`.
        runs: by name those that are there.
    """
    specs = found["grid"].get("evaluations") or {}
    for seed, by_row in found["results"].items():
        for row, several in by_row.items():
            for metrics in (each for each in several if "probe" not in each):
                name, run = metrics.get("evaluation", "test"), runs.get(metrics.get("run", ""))
                spec = specs.get(name) or {}
                other = next((word.split("=")[1] for word in spec.get("on") or () if word.startswith("data=")), None)
                data = other or (run.data if run else "")
                folder = _folder_of(metrics, run) if run else None
                shown = flattened(metrics) if is_open(metrics) else metrics
                yield Result(row, int(seed), name, metrics["mode"], shown, data, folder, bool(spec.get("plug")))


def _folder_of(metrics: Mapping[str, Any], run: RunRecord) -> Path | None:
    """The evaluation's folder in the run: the one that holds the same figures."""
    own = {key: value for key, value in metrics.items() if key not in ("evaluation", "pairs")}
    for path in sorted((run.path / "eval").glob(f"*/{METRICS}")):
        if read_json(path) == own:
            return path.parent
    return None


def _with_pairs(metrics: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Add the probabilities of ranked pairs, where they were measured."""
    if (folder / PAIRS).is_file():
        metrics = {**metrics, "pairs": read_json(folder / PAIRS)}
    if "sets" in metrics:
        metrics["sets"] = {name: _with_pairs(each, folder / name) for name, each in metrics["sets"].items()}
    return flattened(metrics) if is_open(metrics) else metrics


def _walk(folder: Path) -> Iterator[Path]:
    """Yield runs and grids; nothing is looked for inside of them."""
    if (folder / GRID).is_file() or ((folder / CONFIG).is_file() and (folder / ENVIRONMENT).is_file()):
        yield folder
        return
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.name.startswith("."):
            yield from _walk(inner)


def _key(config: Config) -> str:
    """What a run's outcome depends on, but for the seed; where a file of it is gone, all of its settings."""
    try:
        parts = identity(config)
    except VitaskError:
        parts = asdict(config)
    return json.dumps([config.stage.name, config.tag, _without_seed(parts)], sort_keys=True, default=str)


def _without_seed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_seed(item) for key, item in value.items() if key != "seed"}
    return value


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The logged steps; a line that was cut by a kill is left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return [entry for entry in entries if isinstance(entry, dict) and "step" in entry]
