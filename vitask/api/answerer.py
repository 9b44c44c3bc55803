"""A finished run that answers about images in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vitask.api.tuned import Tuned
from vitask.errors import UsageError

if TYPE_CHECKING:
    from vitask.api.images import ImageLike
    from vitask.config.schema import Config
    from vitask.runs.folder import RunFolder
    from vitask.runs.predictor import VLMPredictor


class Answerer(Tuned):
    """A finished run, or an exported bundle, that answers in words (`data=instructions`).

    Calls from several threads take turns; what one is told does not depend on the others. A run with labels is a
    `vitask.Classifier`.

    Example:
        >>> answerer = vitask.Answerer.from_pretrained("runs/questions/crt-seed0-1a2b3c4d")
        >>> answerer.ask(["shapes/00001.png"], "What color is the shape?")
        ['red']
    """

    _predictor: VLMPredictor

    @classmethod
    def _check(cls, run: RunFolder, config: Config) -> None:
        from vitask.runs.identity import is_open_ended

        if not is_open_ended(config):
            raise UsageError(f"Answerer {run.path}: the run chooses among labels; vitask.Classifier asks it")

    def ask(
        self,
        images: ImageLike | Iterable[ImageLike],
        instruction: str | Sequence[str],
        *,
        exemplar: bool = True,
        batch_size: int = 32,
    ) -> list[str]:
        """Answer an instruction about each image, greedily.

        Args:
            images: PIL images, paths, or uint8 arrays `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`; one image or
                path, or any number of images, a single array in a list. They are turned as their EXIF says.
            instruction: one for all images, or one an image.
            exemplar: show each image's exemplar; a run that was tuned without exemplars answers without either way.
            batch_size: images at once; it changes the speed, never the result.

        Returns:
            One answer an image, in order, of at most 128 tokens.

        Raises:
            UsageError: an image is none of these, a path does not exist, instructions are empty, miscounted or hold
                the placeholder of an image, such as `<IMG_CONTEXT>`, or `batch_size` is no whole number of at least 1.
            VitaskError: a file is not an image, an image has no pixels or more than 8 bits a channel, or the
                exemplar's encoder or connector is missing.
        """
        shown = self._shown(images, exemplar, batch_size)
        if not isinstance(instruction, Iterable):
            raise UsageError(f"instruction: expected a text or texts, got {type(instruction).__name__}")
        instructions = [instruction] * len(shown.images) if isinstance(instruction, str) else list(instruction)
        if len(instructions) != len(shown.images):
            raise UsageError(f"instruction: {len(instructions)} for {len(shown.images)} images; give one, or one each")
        if not all(isinstance(each, str) and each.strip() for each in instructions):
            raise UsageError("instruction: expected words, as in 'What color is the shape?'; got an empty text or none")
        if not instructions:
            return []
        with self._turn:
            return list(
                self._predictor.ask(
                    shown, instructions, exemplar=exemplar and self.sees_exemplar, batch_size=batch_size
                )
            )

    def __repr__(self) -> str:
        """Return what it is."""
        return f"Answerer({self._title}, {self._way})"
