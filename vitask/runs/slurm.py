"""A SLURM job for a run: it saves when it is told to stop, goes back into the queue, and resumes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitask.errors import UsageError, VitaskError
from vitask.runs.folder import say, write_text
from vitask.runs.identity import run_folder

if TYPE_CHECKING:
    from vitask.config.schema import Config

JOB = "job.sbatch"
OWN_KEYS = ("launch", "launch.slurm", "launch.submit")
"""Overrides that make the job; within it, others take their place."""

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={machines}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={processes}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
{options}
# Three minutes before the time limit, and on preemption, the run saves between two steps; then the job is queued again.
cd {here} || exit 1
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
told=0
trap 'told=1; kill -TERM "$step"' USR1 TERM
srun --kill-on-bad-exit=1 {command} &
step=$!
wait "$step"
code=$?
if [ "$told" = 1 ]; then
    wait "$step"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
"""


def write_job(config: Config, arguments: Sequence[str]) -> Path:
    """Write the job of a run into its folder, say how to submit it, and submit it with `launch.submit=true`.

    Args:
        config: of the run; `launch.slurm` holds options of sbatch.
        arguments: the overrides that `config` was composed from.

    Raises:
        UsageError: an option is none of sbatch's, or `overwrite=true` would make a requeued job begin anew.
        VitaskError: sbatch is missing or refuses the job.
    """
    for option in config.launch.slurm or ():
        if not option.startswith("-") or "\n" in option:
            raise UsageError(f"launch.slurm: {option!r} is no option of sbatch; write one like --partition=gpu")
    if config.overwrite:
        raise UsageError(
            "overwrite=true: a job that goes back into the queue would train finished stages again; "
            "leave it out, and give the run a tag=... of its own"
        )
    folder = run_folder(config).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOB
    write_text(path, job_script(config, arguments, folder))
    say(f"sbatch {shlex.quote(str(path))}")
    if config.launch.submit:
        _submit(path)
    return path


def job_script(config: Config, arguments: Sequence[str], folder: Path) -> str:
    """Return the text of a job."""
    launch = config.launch
    kept = [word for word in arguments if word.partition("=")[0] not in OWN_KEYS]
    chosen = "multi_node" if launch.machines > 1 else "multi_gpu"
    counts = [f"launch={chosen}", f"launch.processes={launch.processes or 1}", f"launch.machines={launch.machines}"]
    own = os.environ.get("VITASK_CONFIG_DIR")
    groups = ["--config-dir", str(Path(own).absolute())] if own else []
    command = [sys.executable, "-m", "vitask", *groups, "train", *counts, *kept]
    return SCRIPT.format(
        name=shlex.quote(folder.name),
        machines=launch.machines,
        processes=launch.processes or 1,
        log=shlex.quote(str(folder / "slurm-%j.log")),
        options="\n".join(f"#SBATCH {option}" for option in launch.slurm or ()),
        here=shlex.quote(str(Path.cwd())),
        command=shlex.join(command),
    )


def _submit(path: Path) -> None:
    if shutil.which("sbatch") is None:
        raise VitaskError(f"launch.submit=true: there is no sbatch on this machine; the job is in {path}")
    done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise VitaskError(f"sbatch refuses {path}: {' '.join(done.stderr.split())[:300]}")
    say(done.stdout.strip())
