"""A progress bar for passes over many images; silent when few, or when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

PROGRESS_FROM = 2000
Item = TypeVar("Item")


def with_progress(items: Iterable[Item], total: int, description: str) -> Iterable[Item]:
    """Return ``items``, drawing a bar on stderr while they pass if they are more than 2,000 and stderr is a terminal.

    Example:
        >>> for image in with_progress(images, len(images), "checking images"): ...
    """
    if total <= PROGRESS_FROM or not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=description, total=total, console=Console(stderr=True), transient=True)
