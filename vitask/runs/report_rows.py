"""Which runs belong together: those on the same data make a study, those that differ by their seed alone a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vitask.reporting.study import RunRecord, Study
from vitask.runs.report_folders import METRICS, Shelf, run_results

STAGES = ("tsm", "vanilla", "ep", "crt")
NO_MATTER = ("seed", "out", "cache", "overwrite", "prerequisites", "launch", "logger", "stage", "data")
"""Parts of the configuration that do not tell rows of a study apart."""
MOST_WORDS = 3


def studies_of(records: Sequence[RunRecord], shelf: Shelf) -> list[Study]:
    """Group evaluated runs into studies and rows, and name both after what differs."""
    evaluated = [run for run in records if any((run.path / "eval").glob(f"*/{METRICS}"))]
    by_data = _grouped(evaluated, lambda run: json.dumps(_data_of(run), sort_keys=True, default=str))
    firsts = [several[0] for several in by_data]
    titles = _named([run.data for run in firsts], [_flat({"data": _data_of(run)}) for run in firsts])
    return [_study(title, several, shelf) for title, several in zip(titles, by_data, strict=True)]


def _study(title: str, records: Sequence[RunRecord], shelf: Shelf) -> Study:
    rows = _grouped(records, lambda run: run.key)
    rows.sort(key=lambda several: (_rank(several[0].stage), several[0].name))
    words = [_word(several[0]) for several in rows]
    names = _named(words, [_settings_of(several[0]) for several in rows])
    runs = {name: _one_a_seed(several) for name, several in zip(names, rows, strict=True)}
    results = [result for name, several in runs.items() for run in several for result in run_results(run, name, shelf)]
    return Study(title, "", results, runs)


def _word(run: RunRecord) -> str:
    stage = "TSM" if run.stage == "tsm" else run.stage
    return f"{stage} {run.config['tag']}" if run.config["tag"] else stage


def _named(words: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name things by a word, and where words are the same by the settings in which they differ."""
    names = []
    for word, own in zip(words, settings, strict=True):
        rivals = [other for other_word, other in zip(words, settings, strict=True) if other_word == word]
        keys = sorted({key for other in rivals for key in other.keys() | own.keys() if other.get(key) != own.get(key)})
        differing = [key for key in keys if key in own]
        said = ", ".join(f"{key}={_said(own[key])}" for key in differing[:MOST_WORDS])
        more = f" and {len(differing) - MOST_WORDS} more" if len(differing) > MOST_WORDS else ""
        names.append(f"{word} ({said}{more})" if said else word)
    return [
        name if names.count(name) == 1 else f"{name} #{names[:place].count(name) + 1}"
        for place, name in enumerate(names)
    ]


def _said(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _data_of(run: RunRecord) -> dict[str, Any]:
    return {key: value for key, value in run.config["data"].items() if key not in ("download", "instruction")}


def _settings_of(run: RunRecord) -> dict[str, Any]:
    """The settings that a row's name may speak of."""
    config = run.config
    if run.stage == "tsm":
        return _flat({"tsm": config["tsm"]})
    outside = {"launch": {"precision": config["launch"]["precision"]}}
    outside["data"] = {"instruction": config["data"]["instruction"]}
    return _flat({**{key: value for key, value in config.items() if key not in NO_MATTER}, **outside})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _grouped(records: Iterable[RunRecord], key: Any) -> list[list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())


def _one_a_seed(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The same run may lie in two of the folders; the first counts."""
    return sorted({record.seed: record for record in reversed(records)}.values(), key=lambda record: record.seed)


def _rank(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)
