"""A finished run that labels images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitask.api.tuned import Tuned

if TYPE_CHECKING:
    from vitask.api.images import ImageLike
    from vitask.config.schema import Config
    from vitask.runs.folder import RunFolder

SHOWN = 3
"""Labels that a repr shows."""


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


class Classifier(Tuned):
    """A finished run, or an exported bundle, that labels images.

    Calls from several threads take turns; what one is told does not depend on the others. A run that answers in words
    is a `vitask.Answerer`.

    Example:
        >>> classifier = vitask.Classifier.from_pretrained("runs/digits/crt-seed0-1a2b3c4d")
        >>> classifier.predict(["three.png"])[0].label
        'three'
    """

    @classmethod
    def _check(cls, run: RunFolder, config: Config) -> None:
        from vitask.runs.open_ended import require_labels

        require_labels(config, f"Classifier {run.path}", "vitask.Answerer asks it")

    @property
    def sets(self) -> tuple[str, ...]:
        """The data sets that it was tuned on."""
        return tuple(self._predictor.names)

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
            images: PIL images, paths, or uint8 arrays `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`; one image or
                path, or any number of images, a single array in a list. They are turned as their EXIF says.
            exemplar: show each image's exemplar; a run that was tuned without exemplars answers without either way.
            batch_size: images at once; it changes the speed, never the result.
            set: of a run over several data sets, the one that the images are like.

        Returns:
            One prediction an image, in order.

        Raises:
            UsageError: an image is none of these, a path does not exist, `set` is missing or unknown, or `batch_size`
                is no whole number of at least 1.
            VitaskError: a file is not an image, an image has no pixels or more than 8 bits a channel, or the
                exemplar's TSM or connector is missing.
        """
        from vitask.runs.predictor import chosen_set

        number = chosen_set(self.sets, set)
        shown = self._shown(images, exemplar, batch_size, f"{self.sets[number]}/" if len(self.sets) > 1 else "")
        if not shown.images:
            return []
        with self._turn:
            said = self._predictor.answer(
                shown, number, exemplar=exemplar and self.sees_exemplar, batch_size=batch_size
            )
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
        return f"Classifier({self._title}, {self._way}; {'; '.join(known)})"


def _listed(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join([*words[:SHOWN], *(["..."] if len(words) > SHOWN else [])])
