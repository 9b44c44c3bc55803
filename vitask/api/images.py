"""Images as people have them: PIL images, paths or arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from typing import TypeAlias, TypeGuard

    from numpy.typing import NDArray
    from PIL.Image import Image

    ImageLike: TypeAlias = Image | str | os.PathLike[str] | NDArray[Any]


def as_list(images: Any) -> list[ImageLike]:
    """Return images as a list, also a single one.

    Raises:
        UsageError: an array may be one image or several, or it is neither an image nor images.
    """
    if _is_single(images):
        return [images]
    if not isinstance(images, Iterable):
        raise UsageError(f"images: expected PIL images, paths or arrays, got {type(images).__name__}")
    return list(images)


def _is_single(images: Any) -> bool:
    from PIL.Image import Image

    if hasattr(images, "__array_interface__") and not isinstance(images, Image) and images.ndim < 4:
        raise UsageError(
            f"images: one array of shape {images.shape} may be one image or several; put images into a list"
        )
    return isinstance(images, Image) or is_path(images)


def is_path(image: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Say whether an image is given by its path."""
    return isinstance(image, str | os.PathLike)


def as_rgb(image: ImageLike) -> Image:
    """Return an image as PIL's RGB, turned as its EXIF says.

    Raises:
        UsageError: it is no image, or a path that does not exist.
        VitaskError: a file is not an image; it has no pixels, or more than 8 bits a channel.
    """
    import numpy as np
    from PIL import Image

    from vitask.runs.predict import read_image, seen

    if is_path(image):
        path = Path(image).expanduser()
        if not path.is_file():
            wrong = "is a folder; list its images" if path.is_dir() else "no such file"
            raise UsageError(f"{path}: {wrong}")
        return read_image(path)
    if isinstance(image, Image.Image):
        return seen(image, "images")
    if not isinstance(image, np.ndarray):
        raise UsageError(f"images: expected PIL images, paths or arrays, got {type(image).__name__}")
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))):
        raise UsageError(
            f"images: expected uint8 arrays (H, W) or (H, W, 1, 3 or 4), got {image.dtype} of shape {image.shape}"
        )
    if not pixels.size:  # PIL's own words about it differ by version
        raise VitaskError(f"images: an array of shape {image.shape} has no pixels")
    return seen(Image.fromarray(pixels), "images")
