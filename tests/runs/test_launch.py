"""`vitask train launch=...`: ranks that it starts itself, and jobs that it writes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitask.config.compose import compose_config
from vitask.errors import UsageError
from vitask.runs.launch import launcher_arguments, processes, require_ranks, starts_ranks


def launch(*overrides: str):
    return compose_config("train", list(overrides)).launch


def test_one_process_starts_nothing():
    assert not starts_ranks(launch(), {})
    for name in ("multi_gpu", "fsdp", "multi_node"):
        assert starts_ranks(launch(f"launch={name}"), {})
        assert not starts_ranks(launch(f"launch={name}"), {"RANK": "1"}), "a launcher has started it already"
    assert [launch(f"launch={name}").shard for name in ("single", "multi_gpu", "fsdp", "slurm")] == [0, 0, 1, 0]


def test_one_machine_needs_no_address():
    found = launcher_arguments(launch("launch=multi_gpu", "launch.processes=3", "launch.device=cpu"), {})
    assert found == ["--standalone", "--nproc_per_node", "3"]


SEVERAL = ("launch=multi_node", "launch.processes=8", "launch.device=cpu", "launch.machines=3")


@pytest.mark.parametrize("name", ["SLURM_NODEID", "NODE_RANK", "MACHINE_RANK"])
def test_a_machine_finds_its_place_in_the_environment(name):
    found = launcher_arguments(launch(*SEVERAL), {name: "2", "MASTER_ADDR": "first"})
    wanted = "--nnodes 3 --node_rank 2 --master_addr first --master_port 29500 --nproc_per_node 8"
    assert found == wanted.split()
    given = launch(*SEVERAL, "launch.machine=1", "launch.address=other", "launch.port=1234")
    wanted = "--nnodes 3 --node_rank 1 --master_addr other --master_port 1234 --nproc_per_node 8"
    assert launcher_arguments(given, {name: "2", "MASTER_ADDR": "first"}) == wanted.split()


def test_torch_s_own_launcher_takes_the_arguments():
    from torch.distributed.run import parse_args

    words = launcher_arguments(launch(*SEVERAL, "launch.machine=0", "launch.address=first"), {})
    found = parse_args([*words, "-m", "vitask", "train"])
    assert (found.nnodes, found.node_rank, found.master_addr, found.nproc_per_node) == ("3", 0, "first", "8")


@pytest.mark.parametrize(
    ("environment", "overrides", "texts"),
    [
        ({}, ["launch.address=a"], "launch.machine: with launch.machines=3 .*SLURM_NODEID or NODE_RANK"),
        ({}, ["launch.machine=0"], "launch.address: with launch.machines=3 .*MASTER_ADDR"),
        ({"NODE_RANK": "x", "MASTER_ADDR": "a"}, [], "launch.machine=x: machines are numbered from 0 to 2"),
        ({"MASTER_ADDR": "a"}, ["launch.machine=3"], "launch.machine=3: machines are numbered from 0 to 2"),
    ],
)
def test_what_nobody_says_is_asked_for(environment, overrides, texts):
    with pytest.raises(UsageError, match=texts):
        launcher_arguments(launch(*SEVERAL, *overrides), environment)


def test_processes_are_counted_by_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes(launch("launch=multi_gpu")) == 4
    assert processes(launch("launch=multi_gpu", "launch.processes=2")) == 2
    with pytest.raises(UsageError, match=r"launch.processes=8: this machine has 4 GPU\(s\)"):
        processes(launch("launch=multi_gpu", "launch.processes=8"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match=r"no GPU to count here; .*launch\.processes=2"):
        processes(launch("launch=multi_gpu"))


def test_elsewhere_a_launch_is_refused_rather_than_ignored(monkeypatch, small, tmp_path):
    import vitask

    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="started by `vitask train` alone"):
        require_ranks(launch("launch=multi_gpu"))
    with pytest.raises(UsageError, match="launch=single"):
        vitask.train(*small, f"out={tmp_path}", "stage=tsm", "launch.processes=2")


def rank_of(process: int) -> str:
    text = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
    return next((word[5:] for word in text.split("\0") if word.startswith("RANK=")), "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rank_that_is_killed_ends_the_job_with_its_name(small, tmp_path):
    """Killed with SIGKILL in the middle of a run that would go on for minutes."""
    settings = ["launch=multi_gpu", "launch.processes=2", "optim.epochs=2000", "launch.save_every=2"]
    job = subprocess.Popen(
        [sys.executable, "-m", "vitask", "train", "stage=vanilla", *small, *settings, f"out={tmp_path}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 500
        while not list(tmp_path.glob("shapes/vanilla-*/checkpoints/step-????????")):
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ranks = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(next(each for each in ranks if rank_of(int(each)) == "1")), signal.SIGKILL)
        began = time.monotonic()
        out, err = job.communicate(timeout=90)
    finally:
        job.kill()
    assert job.returncode == 1, err
    assert "rank 1 was killed by SIGKILL, and the others were ended with it" in err.splitlines()[-1]
    assert out.startswith("torchrun --standalone --nproc_per_node 2 -m vitask train stage=vanilla")
    assert time.monotonic() - began < 60
    assert not any(Path(f"/proc/{each}").exists() for each in ranks)
    assert list(tmp_path.glob("shapes/vanilla-*/checkpoints/step-????????"))


@pytest.fixture
def job(cli, small, tmp_path):
    """Write a job and return its path."""

    def write(*overrides: str) -> Path:
        ended = cli("train", "stage=crt", *small, f"out={tmp_path}", "launch=slurm", *overrides)
        assert ended.code == 0, ended
        (path,) = tmp_path.glob("shapes/crt-*/job.sbatch")
        assert shlex.split(ended.out.splitlines()[0]) == ["sbatch", str(path)]
        return path

    return write


def test_a_job_says_what_it_runs(job):
    path = job("launch.slurm=['--partition=gpu','--time=1:00']", "launch.machines=2", "launch.shard=true", "tag=a b")
    text = path.read_text()
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    options = ("--nodes=2", "--gpus-per-node=8", "--requeue", "--signal=B:USR1@180")
    for line in (*options, "--partition=gpu", "--time=1:00"):
        assert f"#SBATCH {line}\n" in text
    (command,) = re.findall(r"^srun .*$", text, re.MULTILINE)
    assert " -m vitask train launch=multi_node launch.processes=8 launch.machines=2 stage=crt " in command
    assert command.endswith(" launch.machines=2 launch.shard=true 'tag=a b' &")
    assert "slurm=" not in command
    assert f"#SBATCH --output='{path.parent}/slurm-%j.log'\n" in text, "its name holds a space"
    assert "launch=slurm" not in command
    assert [each.name for each in path.parent.iterdir()] == ["job.sbatch"], "nothing has trained"


STUBS = {
    "srun": 'trap "echo saved; exit 0" TERM\nshift\necho "$@"\ntouch started\n'
    'if [ -n "$FAIL" ]; then exit 3; fi\nwhile true; do sleep 0.05; done\n',
    "scontrol": 'if [ "$1" = show ]; then echo first; echo second; else echo "scontrol $*"; fi\n',
    "sbatch": 'if [ -n "$FAIL" ]; then echo "no such partition" >&2; exit 1; fi\necho "Submitted batch job 7"\n',
}


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """Commands of SLURM that do nothing, first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STUBS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_is_told_to_stop_saves_and_goes_back_into_the_queue(cluster, job, number):
    running = subprocess.Popen(["bash", job("launch.device=cpu")], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not (cluster / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(number)
    out, _ = running.communicate(timeout=20)
    assert running.returncode == 0
    assert out.splitlines()[-2:] == ["saved", "scontrol requeue 7"]


def test_a_job_that_fails_stays_failed(cluster, job, monkeypatch):
    path = job()
    monkeypatch.setenv("FAIL", "1")
    ended = subprocess.run(["bash", path], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 3
    assert "requeue" not in ended.stdout


def test_a_job_is_submitted_only_when_asked(cluster, cli, small, monkeypatch):
    arguments = ["train", "stage=tsm", *small, "launch=slurm"]
    assert "Submitted" not in cli(*arguments, "out=a").out
    assert cli(*arguments, "out=b", "launch.submit=true").out.splitlines()[-1] == "Submitted batch job 7"
    monkeypatch.setenv("FAIL", "1")
    cli(*arguments, "out=c", "launch.submit=true").refuses(1, "sbatch refuses", "no such partition")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    cli(*arguments, "out=d", "launch.submit=true").refuses(1, "there is no sbatch on this machine", "job.sbatch")


def test_a_job_that_would_not_resume_is_refused(cli, small, tmp_path):
    arguments = ["train", "stage=tsm", *small, f"out={tmp_path}", "launch=slurm"]
    cli(*arguments, "overwrite=true").refuses(2, "overwrite=true", "train finished stages again")
    cli(*arguments, "launch.slurm=[gpu]").refuses(2, "launch.slurm", "'gpu' is no option of sbatch")
    assert not list(tmp_path.iterdir())
