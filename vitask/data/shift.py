"""A shifted version of a data set: the same images under another exposure, framing or sensor, in every split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from vitask.data.mixture import mix
from vitask.data.task import TaskData
from vitask.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Shift:
    """What is done to every image, in this order: crop, blur, brightness, contrast, noise. By default nothing.

    Attributes:
        noise: Standard deviation of Gaussian noise; 1 is the full range of a pixel.
        contrast: Factor of the distance to the image's mean grey.
        brightness: Factor of every pixel.
        crop: Share of each side that is left, at a random place, enlarged to the size that the image had.
        blur: Standard deviation of a Gaussian blur, in pixels.

    Raises:
        UsageError: A value is negative, or ``crop`` is not in (0, 1].

    Example:
        >>> Shift(noise=0.1)(image, "patient-7").size == image.size
        True
    """

    noise: float = 0.0
    contrast: float = 1.0
    brightness: float = 1.0
    crop: float = 1.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if value < 0 or (key == "crop" and not 0 < value <= 1):
                span = "in (0, 1]" if key == "crop" else "at least 0"
                raise UsageError(f"data.shift.{key}: {value:g} is out of range; expected {span}")

    def __call__(self, image: Image, name: str) -> Image:
        """Return the shifted image, RGB or L as it was; what is random depends on ``name`` alone."""
        from PIL import Image, ImageEnhance, ImageFilter

        seed = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32)
        rng = np.random.default_rng(seed)
        if self.crop < 1:
            image = image.resize(image.size, Image.Resampling.BILINEAR, box=self._box(image, rng))
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        if self.brightness != 1:
            image = ImageEnhance.Brightness(image).enhance(self.brightness)
        if self.contrast != 1:
            image = ImageEnhance.Contrast(image).enhance(self.contrast)
        if self.noise:
            pixels = np.asarray(image) + rng.normal(0, 255 * self.noise, np.asarray(image).shape)
            image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        return image

    def _box(self, image: Image, rng: np.random.Generator) -> tuple[float, ...]:
        """Left, top, right and bottom of what is left of an image."""
        kept = [self.crop * side for side in image.size]
        corner = [rng.uniform(0, side - part) for side, part in zip(image.size, kept, strict=True)]
        return (*corner, *(start + part for start, part in zip(corner, kept, strict=True)))


def with_shift(task: TaskData, shift: Shift) -> TaskData:
    """Return a task whose images are shifted when they are read, in all splits; nothing is written or held.

    A note says so beside every result, and the fingerprint is another. ``Shift()`` returns the task itself.

    Example:
        >>> with_shift(digits, Shift(contrast=0.5, noise=0.1)).notes
        {'image shift': 'noise 0.1, contrast 0.5, in all splits'}
    """
    if shift == Shift():
        return task
    if task.members:
        return mix(task.name, [with_shift(member, shift) for member in task.members])
    changed = [f"{key.name} {value:g}" for key in fields(Shift) if (value := getattr(shift, key.name)) != key.default]
    splits = {
        name: split.with_images(_ShiftedImages(split["image"], split["id"], shift))
        for name, split in task.splits.items()
    }
    identity = json.dumps([task.fingerprint, asdict(shift)])
    return replace(
        task,
        splits=splits,
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        notes={**task.notes, "image shift": f"{', '.join(changed)}, in all splits"},
    )


class _ShiftedImages(Sequence):
    """Images that are shifted when they are asked for."""

    def __init__(self, images: Sequence[Image], names: Sequence[str], shift: Shift) -> None:
        self.images, self.names, self.shift = images, names, shift

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image:
        return self.shift(self.images[index], self.names[index])
