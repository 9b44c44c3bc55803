"""vitask from Python: train, evaluate and compose under the names of the command line, and a classifier of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from typing import TypeAlias, TypeGuard

    from numpy.typing import NDArray
    from PIL.Image import Image

    from vitask.config.schema import Config
    from vitask.runs.predictor import TSMPredictor, VLMPredictor
    from vitask.tsm import ImageSet

    ImageLike: TypeAlias = Image | str | os.PathLike[str] | NDArray[Any]
    Predictor: TypeAlias = TSMPredictor | VLMPredictor

SHOWN = 3
"""Labels that a repr shows."""


def compose(*overrides: str, **options: Any) -> Config:
    """Compose the configuration of a training run, checked as on the command line.

    Args:
        overrides: as the command line takes them, `"stage=ep"`, `"optim.lr=1e-3"`.
        options: the same as keywords, `seed=3`; dotted names go in as `**{"optim.epochs": 2}`.

    Raises:
        UsageError: a key or value is unknown, missing or out of range.

    Example:
        >>> vitask.compose("stage=ep", seed=3).seed
        3
    """
    from vitask.config.compose import compose_config

    return compose_config("train", _words(overrides, options))


def train(*overrides: str, **options: Any) -> list[Path]:
    """Train a stage, or the whole pipeline, as `vitask train` does.

    Args:
        overrides: see `compose`.
        options: see `compose`.

    Returns:
        The run folders of the stages that were asked for, in order; those that were finished before among them.

    Raises:
        UsageError: the request is wrong.
        VitaskError: training fails, or a single stage that was asked for is finished already.

    Example:
        >>> *_, run = vitask.train("stage=all", "data=image_folder", "data.root=photos", seed=0)
    """
    config = compose(*overrides, **options)
    from vitask.runs.train import train as train_stages

    return [run.path for run in train_stages(config)]


def evaluate(*overrides: str, **options: Any) -> list[dict[str, Any]]:
    """Score a finished run, as `vitask evaluate` does.

    Args:
        overrides: those of `vitask evaluate`.
        options: the same as keywords.

    Returns:
        What the `metrics.json` of each mode holds: without, then with the exemplar.

    Raises:
        UsageError: the request is wrong.
        VitaskError: the run is not finished, or something of it is missing, damaged or changed.

    Example:
        >>> without, with_exemplar = vitask.evaluate(run=run, split="val")
        >>> without["accuracy"], without["intervals"]["accuracy"]
        (0.83, [0.80, 0.86])
    """
    from vitask.config.compose import compose_config

    request = compose_config("evaluate", _words(overrides, options))
    from vitask.runs.evaluate import evaluate as evaluate_run

    return evaluate_run(request)


@dataclass(frozen=True, repr=False)
class Prediction:
    """What a classifier says of one image.

    Attributes:
        label: the answer in words; where an image may have several labels, all of them.
        labels: its labels: one, or any number.
        probabilities: by label, the likeliest first; over the labels, or with several labels an image of each.
    """

    label: str
    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def __repr__(self) -> str:
        """Return the answer and the likeliest labels."""
        return f"Prediction({self.label!r}: {_listed([f'{name} {p:.3f}' for name, p in self.probabilities.items()])})"


class Classifier:
    """A finished run, or an exported bundle, that labels images.

    Calls from several threads take turns; what one is told does not depend on the others.

    Args:
        predictor: what answers.
        title: what it is, for its repr.
        without_exemplar: why it can show no exemplar although the run was trained with them, if so.

    Example:
        >>> classifier = vitask.Classifier.from_pretrained("runs/digits/crt-seed0-1a2b3c4d")
        >>> classifier.predict(["three.png"])[0].label
        'three'
    """

    def __init__(self, predictor: Predictor, title: str, without_exemplar: VitaskError | None = None) -> None:
        self._predictor = predictor
        self._title = title
        self._without_exemplar = without_exemplar
        self._turn = Lock()

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], device: str = "auto") -> Classifier:
        """Load a run folder, or a bundle that `vitask export to=bundle` wrote.

        Without its TSM or connector a run still loads; then it answers with `exemplar=False` alone.

        Args:
            folder: of the run or the bundle.
            device: `"auto"` (the GPU if there is one), `"cpu"`, or another device of torch.

        Raises:
            UsageError: there is no run, the device is unknown, or the run has no class probabilities.
            VitaskError: the run is not finished, or a file is missing or damaged.
        """
        from vitask.config.schema import PredictConfig
        from vitask.runs.identity import data_name, needs_exemplar
        from vitask.runs.open_ended import require_labels
        from vitask.runs.predictor import open_predictor
        from vitask.runs.tuned import finished_run, require_head

        _check_device(device)
        run, config = finished_run(os.fspath(folder))
        require_head(run, config)
        require_labels(config, f"Classifier {run.path}", "vitask predict instruction=... asks it")
        title, reason = f"{config.stage.name} on {data_name(config)}", None
        request = PredictConfig(
            run=str(run.path), exemplar="on", exemplar_table=None, set=None, batch_size=32, device=device
        )
        try:
            predictor = open_predictor(run, config, request)
        except VitaskError as error:
            if config.stage.name == "tsm" or not needs_exemplar(config):
                raise
            request.exemplar, reason = "off", error
            predictor = open_predictor(run, config, request)
        return cls(predictor, title, reason)

    @property
    def sets(self) -> tuple[str, ...]:
        """The data sets that it was tuned on."""
        return tuple(self._predictor.names)

    @property
    def sees_exemplar(self) -> bool:
        """Whether it can answer with the exemplar."""
        return self._predictor.sees_exemplar

    def labels(self, set: str | None = None) -> tuple[str, ...]:
        """Return the labels that it chooses from; of a run over several data sets, those of the one named `set`."""
        from vitask.runs.predictor import chosen_set

        return tuple(self._predictor.labels(chosen_set(self.sets, set)))

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        exemplar: bool = True,
        batch_size: int = 32,
        set: str | None = None,
    ) -> list[Prediction]:
        """Label images.

        Args:
            images: PIL images, paths, or uint8 arrays `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`; one, or any
                number of them.
            exemplar: show each image's exemplar; a run that was tuned without exemplars answers without either way.
            batch_size: images at once; it changes the speed, never the result.
            set: of a run over several data sets, the one that the images are like.

        Returns:
            One prediction an image, in order.

        Raises:
            UsageError: an image is none of these, a path does not exist, or `set` is missing or unknown.
            VitaskError: a file is not an image, or the exemplar's TSM or connector is missing.
        """
        from vitask.runs.exemplars import file_set
        from vitask.runs.predictor import chosen_set

        if batch_size < 1:
            raise UsageError(f"batch_size: {batch_size} is out of range; expected at least 1")
        if exemplar and self._without_exemplar is not None:
            raise VitaskError(f"{self._without_exemplar}; exemplar=False answers without") from self._without_exemplar
        number = chosen_set(self.sets, set)
        given = _as_list(images)
        if not given:
            return []
        prefix = f"{self.sets[number]}/" if len(self.sets) > 1 else ""
        paths = [Path(each if _is_path(each) else f"<image {place}>") for place, each in enumerate(given)]
        shown = file_set(paths, [_rgb(each) for each in given], prefix)
        return self._ask(shown, number, exemplar and self.sees_exemplar, batch_size)

    def _ask(self, shown: ImageSet, number: int, exemplar: bool, batch_size: int) -> list[Prediction]:
        with self._turn:
            said = self._predictor.answer(shown, number, exemplar=exemplar, batch_size=batch_size)
        return [
            Prediction(
                label=text,
                labels=tuple(said.labels[label] for label in chosen),
                probabilities=dict(sorted(zip(said.labels, row, strict=True), key=lambda pair: -pair[1])),
            )
            for text, chosen, row in zip(said.texts, said.chosen, said.probabilities.tolist(), strict=True)
        ]

    def __repr__(self) -> str:
        """Return what it is and what it chooses from."""
        known = [f"{name}: {_listed(self._predictor.labels(number))}" for number, name in enumerate(self.sets)]
        way = "with and without exemplar" if self.sees_exemplar else "without exemplar"
        return f"Classifier({self._title}, {way}; {'; '.join(known)})"


def _words(overrides: Iterable[str], options: Mapping[str, Any]) -> list[str]:
    """Write keywords as the command line would have them."""
    return [*overrides, *(f"{key}={_word(value)}" for key, value in options.items())]


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_inner(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inner, value)) + "]"
    return str(value)


def _inner(value: Any) -> str:
    """A value inside a list or a dictionary, where a text may hold any character."""
    if isinstance(value, str | os.PathLike):
        return "'" + str(value).replace("'", r"\'") + "'"
    return _word(value)


def _listed(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join([*words[:SHOWN], *(["..."] if len(words) > SHOWN else [])])


def _check_device(name: str) -> None:
    import torch

    if name == "auto":
        return
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device='{name}': torch has no such device here: {reason}") from error


def _as_list(images: Any) -> list[ImageLike]:
    return [images] if _is_single(images) else list(images)


def _is_single(images: Any) -> bool:
    from PIL.Image import Image

    if hasattr(images, "__array_interface__") and not isinstance(images, Image) and images.ndim < 4:
        raise UsageError(
            f"images: one array of shape {images.shape} may be one image or several; put images into a list"
        )
    return isinstance(images, Image) or _is_path(images)


def _is_path(image: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(image, str | os.PathLike)


def _rgb(image: ImageLike) -> Image:
    """Return an image as PIL's RGB."""
    import numpy as np
    from PIL import Image

    from vitask.runs.predict import read_image

    if _is_path(image):
        path = Path(image).expanduser()
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        return read_image(path)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if not isinstance(image, np.ndarray):
        raise UsageError(f"images: expected PIL images, paths or arrays, got {type(image).__name__}")
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))):
        raise UsageError(
            f"images: expected uint8 arrays (H, W) or (H, W, 1, 3 or 4), got {image.dtype} of shape {image.shape}"
        )
    return Image.fromarray(pixels).convert("RGB")
