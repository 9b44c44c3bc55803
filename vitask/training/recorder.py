"""What a run writes while it trains: one JSON line a logged step, a CSV at the end, and trackers when asked."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import VitaskError
from vitask.files import written

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
            with written(self.path):
                self.path.write_text("".join(kept))

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Record the values of one step."""
        if self.accelerator.is_main_process:
            with written(self.path), self.path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        self.accelerator.log(values, step=step)

    def finish(self) -> None:
        """Write `log.csv`, the same rows for a spreadsheet, and close the trackers."""
        if self.accelerator.is_main_process:
            rows = [json.loads(line) for line in self._lines()]
            columns = list(dict.fromkeys(key for row in rows for key in row))
            table = self.path.with_suffix(".csv")
            with written(table), table.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)
        for tracker in self.accelerator.trackers:  # end_training would also end the group of ranks, too early
            tracker.finish()

    def _lines(self) -> list[str]:
        """Complete lines; a kill may have cut the last one."""
        text = self.path.read_text() if self.path.exists() else ""
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
