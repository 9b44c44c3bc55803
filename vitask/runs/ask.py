"""`vitask predict instruction=...`: what an open-ended run answers about images of your own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.errors import UsageError
from vitask.runs.exemplars import file_set, with_asked_exemplars
from vitask.runs.folder import say
from vitask.runs.identity import is_open_ended
from vitask.runs.predict import image_files, read_image
from vitask.runs.predictor import VLMPredictor
from vitask.runs.tuned import finished_run, require_head

if TYPE_CHECKING:
    from vitask.config.schema import PredictConfig


def answers_in_words(request: PredictConfig) -> bool:
    """Say whether a run answers in words; one that chooses among labels is asked by `predict`.

    Raises:
        UsageError: there is no run, or an instruction is given to one with labels.
        VitaskError: the run is not finished.
    """
    config = finished_run(request.run)[1]
    if request.instruction is not None and not is_open_ended(config):
        raise UsageError(
            f"instruction: {request.run} chooses among labels and asks what it was tuned to ask; leave it out"
        )
    return is_open_ended(config)


def ask(request: PredictConfig, paths: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield each image's path and the answer to the instruction.

    Raises:
        UsageError: there is no image or no instruction, or the run is that of an encoder.
        VitaskError: an image cannot be read, or a file of the run is missing or damaged.
    """
    run, config = finished_run(request.run, request.base)
    require_head(run, config)
    config = with_asked_exemplars(config, request)
    files = image_files(paths)
    images = [read_image(path) for path in files]
    predictor = VLMPredictor(run, config, request)
    instruction = request.instruction or predictor.tuned.members[0].instruction
    if not instruction:
        raise UsageError("instruction: this run was tuned on several; say what to ask, instruction='What is it?'")
    if request.exemplar == "on" and not predictor.sees_exemplar:
        say("this run was tuned without exemplar, so it answers without")
    shown, size = file_set(files, images), request.batch_size
    answers = predictor.ask(shown, instruction, exemplar=predictor.sees_exemplar, batch_size=size)
    yield from zip(files, answers, strict=True)
