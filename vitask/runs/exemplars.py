"""What exemplars a run shows, and of which images: those of a split, or files of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.config.exemplars import build_exemplars
from vitask.data import pictures_of, row_ranges, vectors_digest
from vitask.errors import UsageError, VitaskError
from vitask.runs.folder import RunFolder, read_json
from vitask.runs.identity import needs_exemplar, with_hint
from vitask.tsm import ImageSet, Rows
from vitask.vlm.saving import DESCRIPTION

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from vitask.config.schema import Config, EvaluateConfig, PredictConfig
    from vitask.data import TaskData
    from vitask.tsm import ExemplarSource, TSMExemplars

CONTENT_NOTES = {
    "shuffled": "each image with another image's exemplar",
    "constant": "the same exemplar for every image",
}


def with_asked_exemplars(config: Config, request: EvaluateConfig | PredictConfig) -> Config:
    """Return the configuration of a run with the exemplars that an evaluation or a prediction asks for instead.

    Raises:
        UsageError: the run sees no exemplar, or two sources are asked for.
    """
    tsm, content = getattr(request, "tsm", None), getattr(request, "exemplar_content", None)
    able = needs_exemplar(config)
    if tsm is not None and not (with_hint(config) or (able and (content or config.exemplar.content) != "constant")):
        raise UsageError(f"tsm={tsm}: {request.run} sees no exemplar, so there is no TSM to replace")
    for key, value in (("exemplar_table", request.exemplar_table), ("exemplar_content", content)):
        if value is not None and not able:
            raise UsageError(f"{key}={value}: {request.run} sees no exemplar, so there is none to replace")
    if tsm is not None and request.exemplar_table is not None:
        raise UsageError("tsm and exemplar_table both replace the exemplars; give one of them")
    table = None if tsm is not None else request.exemplar_table or config.exemplar.table
    return replace(config, exemplar=replace(config.exemplar, table=table, content=content or config.exemplar.content))


def open_exemplars(
    run: RunFolder, config: Config, request: EvaluateConfig | PredictConfig, tsm: TSMExemplars | None
) -> ExemplarSource:
    """Return what gives the exemplars of a finished run.

    Args:
        run: the run.
        config: its configuration, see `with_asked_exemplars`.
        request: what was asked.
        tsm: what the TSM gives, where exemplars are its own.

    Raises:
        VitaskError: the run's table is not what it was in training, and whatever `build_exemplars` raises.
    """
    if config.exemplar.table is not None and request.exemplar_table is None:
        was, now = read_json(run.model / DESCRIPTION)["exemplar_table"], vectors_digest(config.exemplar.table)
        if was != now:
            raise VitaskError(
                f"{config.exemplar.table}: the table has changed since {run.path} was trained (sha256 {now[:12]}, was "
                f"{was[:12]}); put it back, or say that it is another one with exemplar_table=..."
            )
    return build_exemplars(config, tsm)


def exemplar_notes(config: Config) -> dict[str, str]:
    """Say beside results with exemplars what is unusual about these."""
    exemplar = config.exemplar
    notes = {} if exemplar.table is None else {"exemplars": f"vectors of {Path(exemplar.table).name}"}
    return {**notes, **({"exemplar content": CONTENT_NOTES[exemplar.content]} if exemplar.content != "image" else {})}


def image_set(task: TaskData, split: str) -> ImageSet:
    """Return the images of a split, each by its id; in a mixture `<data set>/<id>`.

    Of an open-ended task these are the distinct ones, each by its own name or the id of any of its rows.
    """
    rows = task.splits[split]
    if task.open_ended:
        first, places = pictures_of(rows)
        of_each = [[rows["picture"][row]] for row in first]
        for place, name in zip(places, rows["id"], strict=True):
            of_each[place].append(name)
        images = rows.select(first)["image"]
        return ImageSet(images, of_each, [range(len(first))], f"{task.fingerprint}/{split}")
    names = [(name,) for name in rows["id"]]
    return ImageSet(rows["image"], names, row_ranges(task, split), f"{task.fingerprint}/{split}")


def exemplars_of(source: ExemplarSource, shown: ImageSet, task: TaskData, split: str) -> Sequence[Tensor]:
    """Return the exemplar of every row of a split, `shown` being its images; rows of one image share theirs."""
    found = source(shown)
    return Rows(found, pictures_of(task.splits[split])[1]) if task.open_ended else found


def file_set(paths: Sequence[Path], images: Sequence[Image], prefix: str = "") -> ImageSet:
    """Return images of no data set, each by the names that it may have in a table of vectors.

    A file goes by the end of its path, with or without its ending, however many folders that holds; a number alone is
    no name, as it may count anything.

    Args:
        paths: of the images.
        images: decoded.
        prefix: begins the ids of a data set of a mixture.
    """
    return ImageSet(images, [_names(path, prefix) for path in paths], [range(len(paths))])


def _names(path: Path, prefix: str) -> list[str]:
    parts = path.absolute().parts[1:]
    whole = ["/".join(parts[start:]) for start in range(len(parts))]
    bare = [str(Path(name).with_suffix("")) for name in whole]
    return [str(path), *(prefix + name for name in (*whole, *bare) if not name.isdigit())]
