"""What a classifier and an answerer share: a run loaded once, asked from several threads, about images of all kinds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from vitask.api.images import as_list, as_rgb, is_path
from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from vitask.api.images import ImageLike
    from vitask.config.schema import Config
    from vitask.runs.folder import RunFolder
    from vitask.runs.predictor import TSMPredictor, VLMPredictor
    from vitask.tsm import ImageSet

    Predictor = TSMPredictor | VLMPredictor

Answering = TypeVar("Answering", bound="Tuned")


class Tuned:
    """A finished run, or an exported bundle.

    Args:
        predictor: what answers.
        title: what it is, for its repr.
        without_exemplar: why it can show no exemplar although the run was trained with them, if so.
    """

    def __init__(self, predictor: Predictor, title: str, without_exemplar: VitaskError | None = None) -> None:
        self._predictor = predictor
        self._title = title
        self._without_exemplar = without_exemplar
        self._turn = Lock()

    @classmethod
    def from_pretrained(
        cls: type[Answering],
        folder: str | os.PathLike[str],
        device: str = "auto",
        *,
        base: str | os.PathLike[str] | None = None,
    ) -> Answering:
        """Load a run folder, or a bundle that `vitask export to=bundle` wrote.

        Without its TSM or connector a run still loads; then it answers with `exemplar=False` alone.

        Args:
            folder: of the run or the bundle.
            device: `"auto"` (the GPU if there is one), `"cpu"`, or another device of torch.
            base: the folder of the base model, where that is not where it was in training.

        Raises:
            UsageError: there is no run or no base model, the device is unknown, or the run answers in another way.
            VitaskError: the run is not finished, or a file is missing or damaged.
        """
        from vitask.config.schema import PredictConfig
        from vitask.runs.identity import data_name, needs_exemplar
        from vitask.runs.predictor import open_predictor
        from vitask.runs.tuned import finished_run, require_head

        _check_device(device)
        run, config = finished_run(os.fspath(folder), None if base is None else os.fspath(base))
        require_head(run, config)
        cls._check(run, config)
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

    @classmethod
    def _check(cls, run: RunFolder, config: Config) -> None:
        """Raise a `UsageError` if a run answers in another way than this class."""
        raise NotImplementedError

    @property
    def sees_exemplar(self) -> bool:
        """Whether it can answer with the exemplar."""
        return self._predictor.sees_exemplar

    def _shown(
        self, images: ImageLike | Iterable[ImageLike], exemplar: bool, batch_size: int, prefix: str = ""
    ) -> ImageSet:
        """Return what is asked about, checked.

        Args:
            images: one, or any number of them.
            exemplar: whether their exemplars are wanted.
            batch_size: images at once.
            prefix: of the names by which an exemplar table knows them.
        """
        from vitask.runs.exemplars import file_set

        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise UsageError(f"batch_size: expected a whole number of at least 1, got {batch_size!r}")
        if exemplar and self._without_exemplar is not None:
            raise VitaskError(f"{self._without_exemplar}; exemplar=False answers without") from self._without_exemplar
        given = as_list(images)
        paths = [Path(each if is_path(each) else f"<image {place}>") for place, each in enumerate(given)]
        return file_set(paths, [as_rgb(each) for each in given], prefix)

    @property
    def _way(self) -> str:
        return "with and without exemplar" if self.sees_exemplar else "without exemplar"


def _check_device(name: str) -> None:
    import torch

    if name == "auto":
        return
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device='{name}': torch has no such device here: {reason}") from error
