"""`vitask train`."""

from __future__ import annotations

import os
import shlex

from vitask.cli.help import print_help, wants_help
from vitask.interruption import Interrupted, Stopped, interruptible, told_by

EXAMPLES = """\
  vitask train                                     tsm, vanilla, ep and crt on the embedded default
  vitask train stage=ep                            stage 1 of the paper; the TSM is trained first if it is missing
  vitask train stage=crt objective=crt seed=1      stage 2 without RDA
  vitask train stage=head                          a linear head on the VLM, the control against answers
  vitask train stage=ep data=medmnist data.name=dermamnist data.root=~/medmnist
  vitask train stage=all experiment=paper_derma data.root=~/medmnist
  vitask train stage=crt exemplar.table=dino.parquet    exemplars of another model; columns id, vector
  vitask train stage=all launch=multi_gpu          a process a GPU; launch=fsdp splits the VLM over them
  vitask train stage=all launch=slurm              writes a job that resumes when it is preempted
  torchrun --nproc_per_node 2 -m vitask train stage=ep    under a launcher of your own the run takes part"""


def main(arguments: list[str]) -> None:
    """Compose the configuration, and train, start the ranks that train, or write the job that starts them.

    Raises:
        Stopped: the process was told to stop, while a stage trained or between two of them.
    """
    if wants_help(arguments):
        print_help("train", "Train a stage, or the whole pipeline. Run folders follow from the settings.", EXAMPLES)
        return
    try:
        with interruptible():
            _train(arguments)
    except Interrupted:
        raise Stopped(
            f"stopped by {told_by()} before training began or between two stages; the same command goes on from there"
        ) from None


def _train(arguments: list[str]) -> None:
    from vitask.config.compose import compose_config

    config = compose_config("train", arguments)
    from vitask.runs.launch import start_ranks, starts_ranks

    if config.launch.slurm is not None and "RANK" not in os.environ:
        from vitask.runs.slurm import write_job

        write_job(config, arguments)
    elif starts_ranks(config.launch, os.environ):
        start_ranks(config.launch, "train", arguments)
    else:
        from vitask.runs.folder import say
        from vitask.runs.train import train

        *_, last = train(config)
        if not (config.stage.name == "tsm" and config.tsm.tune == "none"):
            say(f"next: vitask evaluate run={shlex.quote(str(last.path))}")
