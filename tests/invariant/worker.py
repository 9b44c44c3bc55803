"""What two ranks do for all the tests of this folder, in one start: the toy's cases, then commands of the CLI.

`python -m torch.distributed.run --nproc_per_node 2 -m tests.invariant.worker FOLDER`; `FOLDER/commands.json` holds the
commands. The main rank writes `cases.json`, `ended.json`, and the weights of each case.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from vitask.training.ranks import whole

from ..conftest import call
from ..training.toy import Interrupted
from .toy import ANSWERING, STAGES, trained

CASES: dict[str, dict[str, Any]] = {
    **{stage: {"stage": stage} for stage in STAGES},
    **{f"{stage}, plain": {"stage": stage, "packed": False} for stage in ANSWERING},
    **{f"crt, {kind}": {"stage": "crt", "negatives": kind} for kind in ("batch", "one-sided")},
    **{f"{stage}, sharded": {"stage": stage, "sharded": True} for stage in STAGES if stage != "tsm"},
    "crt, plain, sharded": {"stage": "crt", "packed": False, "sharded": True},
    "crt, one at a time, sharded": {"stage": "crt", "micro_batch_size": 1, "sharded": True},
}
RESUMED = {"stage": "crt", "sharded": True, "save_every": 1}


def main(folder: Path) -> None:
    """Do everything; a rank that is not the main one writes nothing."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    found = {}
    for name, case in CASES.items():
        found[name] = _train(folder / name, accelerator, case)
    for name in ("sharded again", "whole again"):
        _interrupted(folder / name, accelerator)
    found["sharded again"] = _train(folder / "sharded again", accelerator, RESUMED)
    whole(accelerator)
    if accelerator.is_main_process:
        for name, outcome in found.items():
            save_file({key: tensor.contiguous() for key, tensor in outcome["weights"].items()}, folder / f"{name}.st")
        (folder / "cases.json").write_text(json.dumps({name: outcome["rows"] for name, outcome in found.items()}))
    ended = [call(list(map(_found, command))) for command in json.loads((folder / "commands.json").read_text())]
    (folder / f"ended-{os.environ['RANK']}.json").write_text(json.dumps([vars(each) for each in ended]))


def _found(word: str) -> str:
    """A word of a command, with `*` in a path replaced by what is there."""
    key, _, path = word.partition("=")
    return f"{key}={next(Path('/').glob(path.lstrip('/')))}" if path.startswith("/") and "*" in path else word


def _train(folder: Path, accelerator: Accelerator, case: dict[str, Any]) -> dict[str, Any]:
    whole(accelerator)
    outcome = trained(folder, accelerator, **case)
    accelerator.wait_for_everyone()
    return outcome


def _interrupted(folder: Path, accelerator: Accelerator) -> None:
    """Leave a sharded run that ended after its second step."""
    whole(accelerator)
    steps = []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise Interrupted

    try:
        trained(folder, accelerator, **RESUMED, after_step=stop)
    except Interrupted:
        accelerator.wait_for_everyone()
        return
    raise AssertionError("it was not interrupted")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
