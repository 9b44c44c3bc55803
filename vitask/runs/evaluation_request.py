"""What an evaluation was asked for: its modes, the folder of each, and whether that is there already."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.data import vectors_digest
from vitask.errors import UsageError
from vitask.runs.folder import read_json
from vitask.runs.identity import is_head, is_open_ended, needs_exemplar

if TYPE_CHECKING:
    from vitask.config.schema import Config, EvaluateConfig

WITHOUT_EXEMPLAR = ("off", "untuned")
"""Modes in which images are ranked and contrasted: the paper does so on the branch without exemplar."""


def modes(request: EvaluateConfig, config: Config) -> list[str]:
    """Return the modes to evaluate: `tsm` of a TSM run; of a VLM `off` and `on`, or `untuned`.

    Images are ranked and contrasted without exemplar, as the paper does.

    Raises:
        UsageError: the run cannot do what was asked.
    """
    special = {"tuned=false": not request.tuned, "ranking=true": request.ranking, "contrast": request.contrast > 0}
    asked = [key for key, wanted in special.items() if wanted]
    if config.stage.name == "tsm":
        if asked:
            raise UsageError(f"{asked[0]}: {request.run} is the run of a TSM; give that of a VLM")
        return ["tsm"]
    if is_open_ended(config) and request.contrast:
        raise UsageError(f"contrast: chooses among labels, and {request.run} answers in words; leave it out")
    if is_head(config) and asked:
        raise UsageError(f"{asked[0]}: {request.run} has a linear head and gives no answers; give a VLM that does")
    if request.exemplar == "on":
        if asked:
            raise UsageError(f"{asked[0]}: this is for the VLM without exemplar; leave exemplar=on out")
        if not needs_exemplar(config):
            raise UsageError(f"exemplar=on: {request.run} was trained without exemplar, so it has no connector")
        return ["on"]
    if request.ranking and request.contrast:
        raise UsageError("ranking=true: is not contrasted; ask for ranking and contrast one at a time")
    if not request.tuned:
        return ["untuned"]
    return ["off", "on"] if request.exemplar == "both" and needs_exemplar(config) and not request.contrast else ["off"]


def folder_name(request: EvaluateConfig, mode: str) -> str:
    """Name the folder of an evaluation after all that it depends on."""
    parts = [f"{request.split}-{mode}"]
    if request.contrast:
        parts.append(f"contrast-{request.contrast:g}")
    if request.other_data is not None:
        text = json.dumps(asdict(request.other_data), sort_keys=True, default=str)
        parts.append(f"data-{request.other_data.source}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    for key, path in (("data", request.data), ("tsm", request.tsm)):
        if path is not None:
            run = Path(path).expanduser().resolve()
            parts.append(f"{key}-{run.parent.name}-{run.name}")
    if mode == "on" and request.exemplar_table is not None:
        parts.append(f"table-{Path(request.exemplar_table).stem}-{vectors_digest(request.exemplar_table)[:8]}")
    if mode == "on" and request.exemplar_content is not None:
        parts.append(f"content-{request.exemplar_content}")
    return "_".join(parts)


def is_done(mode: str, folder: Path, request: EvaluateConfig, tsm: Path, fingerprint: str | None = None) -> bool:
    """Whether an evaluation is there that holds what is asked for, and is younger than the other runs in it.

    Args:
        mode: see `modes`.
        folder: where it would be.
        request: what is asked for.
        tsm: the folder of the TSM that belongs to the run.
        fingerprint: of other data, which it must have been on: its files may have changed.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        return False
    others = [Path(run).expanduser() / "summary.json" for run in (request.data, request.tsm, tsm) if run is not None]
    if any(other.is_file() and other.stat().st_mtime > path.stat().st_mtime for other in others):
        return False
    known = read_json(path)
    if fingerprint is not None and known.get("fingerprint") != fingerprint:
        return False
    return _asked_parts(mode, request) <= known.keys() and known.get("rivals", request.rivals) == request.rivals


def parts_to_compute(mode: str, folder: Path, request: EvaluateConfig) -> set[str]:
    """Return which optional parts (`generated`, `ranking`) to compute: those asked for, and those that are there.

    So nothing is lost when something else is asked for later.
    """
    path = folder / "metrics.json"
    there = set() if request.overwrite or not path.is_file() else {"generated", "ranking"} & read_json(path).keys()
    return _asked_parts(mode, request) | there


def _asked_parts(mode: str, request: EvaluateConfig) -> set[str]:
    """Free answers are not contrasted, so they are left out there."""
    asked = {"generated": request.generate and not request.contrast and mode != "tsm"}
    asked["ranking"] = request.ranking and mode in WITHOUT_EXEMPLAR
    return {part for part, wanted in asked.items() if wanted}
