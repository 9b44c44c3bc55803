"""What a run writes while it trains: one JSON line a logged step, a CSV at the end, and trackers when asked."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import VitaskError
from vitask.files import atomic_write, finite, remove_leftovers, written

if TYPE_CHECKING:
    from accelerate import Accelerator


class Recorder:
    """Appends scalars to `log.jsonl` and hands them to accelerate's trackers (wandb, tensorboard).

    Args:
        folder: the run folder.
        accelerator: its main process writes.
        resume_from: last step to keep of an earlier, interrupted run; later lines are dropped, so a resumed log has
            neither gaps nor doubles.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, resume_from: int = 0) -> None:
        self.path = folder / "log.jsonl"
        self.accelerator = accelerator
        if accelerator.is_main_process:
            try:
                kept = [line for line in self._lines() if json.loads(line)["step"] <= resume_from]
            except (ValueError, KeyError, TypeError) as error:
                raise VitaskError(f"{self.path}: damaged ({error}); remove the folder to start over") from error
            remove_leftovers(folder, "log.*")
            atomic_write(self.path, lambda temporary: temporary.write_text("".join(kept)))

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Record the values of one step, on the disk before a checkpoint can be; what is not finite becomes null."""
        if self.accelerator.is_main_process:
            with written(self.path), self.path.open("a") as file:
                file.write(json.dumps(finite({"step": step, **values}), allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        self.accelerator.log(values, step=step)

    def finish(self) -> None:
        """Write `log.csv`, the same rows for a spreadsheet, and close the trackers."""
        if self.accelerator.is_main_process:
            rows = [json.loads(line) for line in self._lines()]
            columns = list(dict.fromkeys(key for row in rows for key in row))
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, columns)
            writer.writeheader()
            writer.writerows(rows)
            atomic_write(self.path.with_suffix(".csv"), lambda path: path.write_text(text.getvalue(), newline=""))
        for tracker in self.accelerator.trackers:  # end_training would also end the group of ranks, too early
            tracker.finish()

    def _lines(self) -> list[str]:
        """Complete lines; a kill may have cut the last one."""
        text = self.path.read_text() if self.path.exists() else ""
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
