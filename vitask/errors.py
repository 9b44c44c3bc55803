"""The two errors that a user can cause, and the exit codes they end with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VitaskError(Exception):
    """Something that vitask needs is broken: a file, a checkpoint, a loss. The CLI prints one line and exits with 1."""

    exit_code = 1


class UsageError(VitaskError):
    """The request itself is wrong: an unknown key, say. The CLI prints one line and exits with 2."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``known``, or an empty string when nothing is near.

    Example:
        >>> did_you_mean("vanila", ["vanilla", "ep"])
        " Did you mean 'vanilla'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
