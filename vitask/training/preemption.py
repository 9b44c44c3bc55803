"""Stopping between two steps when a cluster, or a user, asks for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType

from vitask.interruption import SIGNALS, told_by


class Preemption:
    """Notes SIGTERM and SIGINT for the time of a block instead of ending the process; a second one ends it.

    One that came before, and that a library swallowed while it loaded, counts as the first. A second one does not end a
    rank under a launcher or a worker of a grid, which hand on what each process has heard already.

    In a thread other than the main one, where Python takes no signals, it notes nothing.

    Example:
        >>> with Preemption() as preemption:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     preemption.asked
        'SIGTERM'
    """

    def __init__(self) -> None:
        self.asked = told_by()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        handed_on = "TORCHELASTIC_RUN_ID" in os.environ or multiprocessing.parent_process() is not None
        if self.asked is not None and not handed_on:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number).name


def leave_signals_to_the_parent(worker: int) -> None:
    """Let a data-loading process live on when its whole group is told to stop; the parent ends it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
