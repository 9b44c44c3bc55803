"""Starting the ranks of a run: one process a GPU, on one machine or several, through torch's own launcher."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vitask.errors import UsageError, VitaskError
from vitask.runs.folder import say

if TYPE_CHECKING:
    from vitask.config.schema import LaunchConfig

MACHINE = ("SLURM_NODEID", "NODE_RANK", "MACHINE_RANK")
"""Environment variables that number this machine: of SLURM, of torchrun's users, of accelerate."""


def starts_ranks(launch: LaunchConfig, environment: Mapping[str, str]) -> bool:
    """Whether this process has to start the ranks: several are wanted, and no launcher has started it as one of them.

    Example:
        >>> starts_ranks(compose_config("train", ["launch=multi_gpu"]).launch, {"RANK": "0"})
        False
    """
    return (launch.processes != 1 or launch.machines > 1) and "RANK" not in environment


def start_ranks(launch: LaunchConfig, verb: str, arguments: Sequence[str]) -> None:
    """Start this machine's ranks with the same command and wait for them.

    Raises:
        UsageError: it is not clear how many ranks to start, or which machine this is.
        VitaskError: a rank failed; the others have been ended.
        SystemExit: a rank ended with an error of its own, which it has printed.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    where = launcher_arguments(launch, os.environ)
    if launch.machines > 1:
        _require_known(where[where.index("--master_addr") + 1])
    words = [*where, "-m", "vitask", verb, *arguments]
    say(f"torchrun {shlex.join(words)}")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        run(parse_args(words))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode in (1, 2):
            sys.exit(failure.exitcode)
        raise VitaskError(
            f"rank {rank} {_ended(failure.exitcode)}, and the others were ended with it; "
            "the same command resumes from the last checkpoint"
        ) from error
    except DistError as error:
        reason = str(error).splitlines()[0]
        raise VitaskError(
            f"launch.address, launch.port: the machines do not find each other ({reason}); machine 0 listens on that "
            "port, which has to be free there and reachable from the others"
        ) from error
    except SignalException as stopped:
        say(f"stopped by {stopped.sigval.name}; the ranks were told to save, and the same command goes on from there")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launcher_arguments(launch: LaunchConfig, environment: Mapping[str, str]) -> list[str]:
    """Return the arguments of torchrun for this machine.

    Args:
        launch: how many processes and machines there are.
        environment: where SLURM and others say which machine this is, for what the configuration leaves open.

    Raises:
        UsageError: something is left open that nobody says.
    """
    count = ["--nproc_per_node", str(processes(launch))]
    if launch.machines == 1:
        return ["--standalone", *count]
    found = [environment[name] for name in MACHINE if name in environment]
    machine = launch.machine if launch.machine is not None else next(iter(found), None)
    address = launch.address or environment.get("MASTER_ADDR")
    for key, value, names in (("machine", machine, MACHINE), ("address", address, ("MASTER_ADDR",))):
        if value is None:
            raise UsageError(
                f"launch.{key}: with launch.machines={launch.machines} each machine has to know it; "
                f"give launch.{key}=..., or set {' or '.join(names)}"
            )
    if not str(machine).isdecimal() or int(machine) >= launch.machines:
        raise UsageError(f"launch.machine={machine}: machines are numbered from 0 to {launch.machines - 1}")
    place = ["--node_rank", str(machine), "--master_addr", str(address), "--master_port", str(launch.port)]
    return ["--nnodes", str(launch.machines), *place, *count]


def _require_known(address: str) -> None:
    """Raise a `UsageError` for an address that this machine cannot resolve; torch would wait for it for ever."""
    try:
        socket.getaddrinfo(address, None)
    except OSError as error:
        raise UsageError(f"launch.address={address}: no such machine: {error.strerror}") from error


def processes(launch: LaunchConfig) -> int:
    """Return how many ranks this machine has: as many as were asked for, or one a GPU.

    Raises:
        UsageError: no number is given, and there is no GPU.
    """
    import torch

    if launch.processes is not None:
        if launch.device == "auto" and 0 < torch.cuda.device_count() < launch.processes:
            raise UsageError(
                f"launch.processes={launch.processes}: this machine has {torch.cuda.device_count()} GPU(s), "
                "and each process takes one; leave the key out, or keep to the CPU with launch.device=cpu"
            )
        return launch.processes
    if not torch.cuda.device_count() or launch.device == "cpu":
        raise UsageError("launch.processes: no GPU to count here; say how many processes to start, launch.processes=2")
    return torch.cuda.device_count()


def require_ranks(launch: LaunchConfig) -> None:
    """Raise a `UsageError` if several ranks are wanted and this process is alone, as from Python or in a grid."""
    if starts_ranks(launch, os.environ):
        raise UsageError(
            "launch: several processes are started by `vitask train` alone; here, take launch=single, "
            "or start this program itself with torchrun"
        )


def _ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
