"""Being told to stop, by SIGTERM or Ctrl-C, before a command has anything that it could finish first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vitask.errors import VitaskError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_told: signal.Signals | None = None


class Interrupted(KeyboardInterrupt):
    """The process was told to stop.

    It is no bare `KeyboardInterrupt`: where one ends text that Python executes, as dataclasses and libraries do while
    they load, Python ends itself by the signal, whoever catches the exception.
    """


class Stopped(VitaskError):
    """Training stopped on request, with everything saved; the CLI prints the line and exits with 0."""

    exit_code = 0


def listen() -> None:
    """From now on end on SIGTERM as on Ctrl-C: temporary files are removed on the way out.

    A signal that this process is to ignore stays ignored. In a thread other than the main one, where Python takes no
    signals, nothing changes.
    """
    global _told
    _told = None
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _interrupt)


def told_by() -> str | None:
    """Return the name of the signal that came since `listen`; libraries swallow exceptions while they load.

    Example:
        >>> listen()
        >>> try:
        ...     signal.raise_signal(signal.SIGTERM)
        ... except BaseException:
        ...     told_by()
        'SIGTERM'
    """
    return _told.name if _told is not None else None


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` for whatever else a library made of one: a class body turns it into a `RuntimeError`, say."""
    try:
        yield
    except VitaskError:
        raise
    except Exception as error:
        if _told is None:
            raise
        raise Interrupted from error


def raise_if_told() -> None:
    """Raise `Interrupted` once more if a signal came since `listen`, in case that a library swallowed it."""
    if _told is not None:
        raise Interrupted


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _told
    _told = signal.Signals(number)
    raise Interrupted
