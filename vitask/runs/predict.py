"""`vitask predict`: answer and probabilities for images that belong to no data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.data import UnreadableImage, images_below, upright_rgb
from vitask.errors import UsageError, VitaskError
from vitask.runs.exemplars import file_set, with_asked_exemplars
from vitask.runs.folder import say
from vitask.runs.open_ended import require_labels
from vitask.runs.predictor import chosen_set, open_predictor
from vitask.runs.tuned import finished_run, require_head

if TYPE_CHECKING:
    from PIL.Image import Image

    from vitask.config.schema import PredictConfig


def predict(request: PredictConfig, paths: Sequence[str]) -> Iterator[tuple[Path, str, dict[str, float]]]:
    """Yield each image's path, its answer, and the probability of every label, the likeliest first.

    Where an image may have several labels, the answer is all that it was given, which need not be the likeliest label;
    it is empty if a model without answers in words finds no label.

    Raises:
        UsageError: there is no run, no image, or a path that does not exist.
        VitaskError: the run is not finished, or an image cannot be read.
    """
    run, config = finished_run(request.run, request.base)
    require_head(run, config)
    require_labels(config, "predict", "say what to ask, vitask predict run=... instruction='What is it?' image.png")
    config = with_asked_exemplars(config, request)
    files = image_files(paths)
    images = [read_image(path) for path in files]
    predictor = open_predictor(run, config, request)
    if request.exemplar == "on" and config.stage.name != "tsm" and not predictor.sees_exemplar:
        say("this run was tuned without exemplar, so it answers without")
    number = chosen_set(predictor.names, request.set)
    shown = file_set(files, images, f"{predictor.names[number]}/" if len(predictor.names) > 1 else "")
    answers = predictor.answer(shown, number, exemplar=predictor.sees_exemplar, batch_size=request.batch_size)
    for path, text, row in zip(files, answers.texts, answers.probabilities.tolist(), strict=True):
        yield path, text, dict(sorted(zip(answers.labels, row, strict=True), key=lambda pair: -pair[1]))


def image_files(paths: Sequence[str]) -> list[Path]:
    """Expand files and folders into image files, in order; a folder's are those that `data=image_folder` would find.

    Raises:
        UsageError: nothing was given, a path does not exist, or a folder holds no image.
    """
    if not paths:
        raise UsageError("no image given; write vitask predict run=<folder> image.png [more images or folders]")
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = images_below(path)
            if not found:
                raise UsageError(f"{path}: no image in this folder or below it; images go by their endings, as 1.png")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return files


def read_image(path: Path) -> Image:
    """Read an image as `seen` gives it.

    Raises:
        VitaskError: the file is not an image, is damaged, or has more than 8 bits a channel.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return seen(image, str(path))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VitaskError(f"{path}: cannot be read as an image: {error}") from error


def seen(image: Image, name: str) -> Image:
    """Return an image as those of a data set reach a model: turned as its EXIF says, in RGB.

    Raises:
        VitaskError: it does not decode, has no pixels or more than 8 bits a channel.
    """
    try:
        return upright_rgb(image)
    except UnreadableImage as error:
        raise VitaskError(f"{name}: {error}") from error
