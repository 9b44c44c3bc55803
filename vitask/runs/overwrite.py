"""`overwrite=true`: finished runs are trained again, and nothing is lost or repeated if that is interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vitask.runs.folder import RunFolder, is_main, read_json, wait_for_everyone, write_json


class Overwrite:
    """Which runs of a pipeline have been trained again: the same command, once interrupted, goes on behind them.

    A file beside the last run says it from the first one to the end.

    Args:
        runs: of the pipeline, in order.
    """

    def __init__(self, runs: Sequence[RunFolder]) -> None:
        last = runs[-1].path
        self.path = last.with_name(f".{last.name}.overwritten")
        self.done: list[str] = read_json(self.path)["done"] if len(runs) > 1 and self.path.is_file() else []
        self.several = len(runs) > 1

    def wants(self, run: RunFolder) -> bool:
        """Say whether a finished run is still to be trained again."""
        return run.path.name not in self.done

    def note(self, run: RunFolder) -> None:
        """Note that a run is finished anew."""
        self.done.append(run.path.name)
        if self.several and is_main():
            write_json(self.path, {"done": self.done})

    def end(self) -> None:
        """Forget what was noted: the next command of this kind begins with the first run."""
        if is_main():
            self.path.unlink(missing_ok=True)


@contextmanager
def replaced(run: RunFolder) -> Iterator[None]:
    """Lay a finished run that is trained again aside until the new one is finished.

    If an error ends that one before there is anything to resume, the earlier run is put back. An interrupted run stays
    unfinished, to be resumed.
    """
    earlier, laid_aside = run.path.with_name(f".{run.path.name}.earlier"), run.finished
    wait_for_everyone()
    if laid_aside and is_main():
        shutil.rmtree(earlier, ignore_errors=True)
        run.path.rename(earlier)
    wait_for_everyone()
    try:
        yield
    except BaseException:
        if laid_aside and is_main() and not run.path.exists():
            earlier.rename(run.path)
        raise
    if is_main():
        shutil.rmtree(earlier, ignore_errors=True)
