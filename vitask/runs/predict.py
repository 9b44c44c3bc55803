"""`vitask predict`: label and probabilities for images that belong to no data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vitask.errors import UsageError, VitaskError, did_you_mean
from vitask.evaluation.closed_set import answer_images, label_probabilities
from vitask.runs.folder import RunFolder, say
from vitask.runs.identity import needs_exemplar
from vitask.runs.train_tsm import probabilities
from vitask.runs.tuned import finished_run, load_run_tsm, load_tuned, pick_device, tsm_folder
from vitask.tsm import build_transform, load_tsm
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from vitask.config.schema import PredictConfig
    from vitask.runs.tuned import TunedVLM
    from vitask.tsm import TSM

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def predict(request: PredictConfig, paths: Sequence[str]) -> Iterator[tuple[Path, dict[str, float]]]:
    """Yield each image's path and the probability of every label, the likeliest first.

    Raises:
        UsageError: there is no run, no image, or a path that does not exist.
        VitaskError: the run is not finished, or an image cannot be read.
    """
    run, config = finished_run(request.run)
    files = image_files(paths)
    images = [read_image(path) for path in files]
    device = pick_device(request.device)
    if config.stage.name == "tsm":
        labels, scores = _tsm_probabilities(run, images, request, device)
    else:
        able = needs_exemplar(config)
        if request.exemplar == "on" and not able:
            say("this run was tuned without exemplar, so it answers without")
        tsm = (
            load_run_tsm(tsm_folder(run, config), run.environment()["labels"])
            if request.exemplar == "on" and able
            else None
        )
        tuned = load_tuned(run, config, device, tsm=tsm)
        number = chosen_set([member.name for member in tuned.members], request.set)
        labels = tuned.members[number].labels
        scores = _vlm_probabilities(tuned, number, images, config.exemplar.features, request)
    for path, row in zip(files, scores.tolist(), strict=True):
        yield path, dict(sorted(zip(labels, row, strict=True), key=lambda pair: -pair[1]))


def image_files(paths: Sequence[str]) -> list[Path]:
    """Expand files and folders into image files, in order.

    Raises:
        UsageError: nothing was given, a path does not exist, or a folder holds no image.
    """
    if not paths:
        raise UsageError("no image given; write vitask predict run=<folder> image.png [more images or folders]")
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(
                p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
            )
            if not found:
                raise UsageError(f"{path}: no image in this folder; known endings are {', '.join(IMAGE_SUFFIXES)}")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return files


def read_image(path: Path) -> Image:
    """Read an image as RGB.

    Raises:
        VitaskError: the file is not an image, or is damaged.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VitaskError(f"{path}: cannot be read as an image: {error}") from error


def _tsm_outputs(tsm: TSM, images: Sequence[Image], batch_size: int, kind: str = "cls") -> tuple[Tensor, Tensor]:
    """Return the TSM's features and logits of all images, on the CPU."""
    transform = build_transform(tsm.data_config, None, training=False)
    device = next(tsm.parameters()).device
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            pixels = torch.stack([transform(image) for image in images[start : start + batch_size]])
            outputs.append([out.float().cpu() for out in tsm.eval().features_and_logits(pixels.to(device), kind)])
    features, logits = zip(*outputs, strict=True)
    return torch.cat(features), torch.cat(logits)


def chosen_set(names: Sequence[str], wanted: str | None) -> int:
    """Return which of a run's data sets is meant.

    Raises:
        UsageError: there are several and none was named, or there is none of that name.
    """
    if wanted is None and len(names) == 1:
        return 0
    if wanted not in names:
        known = ", ".join(names)
        if wanted is None:
            raise UsageError(
                f"this run knows several data sets; say what the images are like: set={names[0]} (of {known})"
            )
        raise UsageError(f"set={wanted}: no such data set.{did_you_mean(wanted, names)} This run knows {known}")
    return names.index(wanted)


def _tsm_probabilities(
    run: RunFolder, images: Sequence[Image], request: PredictConfig, device: str
) -> tuple[list[str], Tensor]:
    tsm, meta = load_tsm(run.tsm)
    members = meta["members"]
    number = chosen_set([member["name"] for member in members], request.set)
    start, stop = members[number]["start"], members[number]["stop"]
    logits = _tsm_outputs(tsm.to(device), images, request.batch_size)[1][:, start:stop]
    return meta["labels"][start:stop], probabilities(logits, members[number]["multi_label"])


def _vlm_probabilities(
    tuned: TunedVLM, number: int, images: Sequence[Image], kind: str, request: PredictConfig
) -> Tensor:
    question = tuned.members[number]
    exemplars = _tsm_outputs(tuned.tsm, images, request.batch_size, kind)[0] if tuned.tsm else None
    batches = answer_images(
        tuned.vlm,
        tuned.prompter,
        PromptTable(images, tuned.prompter, question.instruction),
        tuned.responses(number),
        exemplars=exemplars,
        batch_size=request.batch_size,
        with_text=False,
    )
    scores = torch.cat([batch for batch, _ in batches])
    return label_probabilities(scores, [labels for _, labels in question.answers], len(question.labels))
