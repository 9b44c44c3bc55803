"""What a run must never do: reach for the network unasked, load code from a file, write outside its folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

WATCHED = """
import os, socket, sys
from pathlib import Path

allowed = [Path(each).resolve() for each in sys.argv[1].split(os.pathsep)]
outside = []

def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        local = event != "socket.getaddrinfo" and isinstance(args[1], (str, bytes))
        if not local:
            raise RuntimeError(f"network: {event} {args[1:] if event != 'socket.getaddrinfo' else args}")
    elif event == "open" and isinstance(args[0], (str, bytes)):
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else "r" not in (mode or "r")
        note(os.fsdecode(path)) if writes else None
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"):
        at = args[-1] if event in ("os.mkdir", "os.remove", "os.rmdir") else -1  # the open folder that a path is in
        for path in args[:2]:
            base = os.readlink(f"/proc/self/fd/{at}") if at >= 0 else ""
            note(os.path.join(base, os.fsdecode(path))) if isinstance(path, (str, bytes)) else None
    elif event == "pickle.find_class":
        raise RuntimeError(f"code from a file: {event} {args}")

def note(path):
    found = Path(path).absolute()
    found = found.parent.resolve() / found.name
    of_torch = found.name.startswith("torchinductor_")  # a folder for temporary files that importing torch makes
    fine = of_torch or str(found).startswith(("/dev/", "/proc/"))
    if not fine and not any(found.is_relative_to(each) for each in allowed):
        outside.append(str(found))

sys.addaudithook(watch)
from vitask.cli.main import main
for command in sys.argv[2].split("|"):
    main(command.split(";"))
print("OUTSIDE", sorted(set(outside)))
"""


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_method_on_the_embedded_default_stays_at_home(tmp_path):
    """Training of all stages and an evaluation, in a process that has no network and whose writes are watched.

    `HF_HUB_OFFLINE` is not set: nothing may try.
    """
    folders = {name: tmp_path / name for name in ("home", "runs", "cache", "here", "temporary")}
    for folder in folders.values():
        folder.mkdir()
    small = ["data.train_fraction=0.02", "optim.epochs=1", "tsm.optim.epochs=1", "optim.batch_size=16"]
    where = [f"out={folders['runs']}", f"cache={folders['cache']}"]
    train = ["train", "stage=all", *small, *where]
    again = ["train", "stage=crt", *small, *where, "launch.slurm=['--requeue']", "tag=job"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "XDG_", "VITASK_"))}
    environment |= {"HOME": str(folders["home"]), "TMPDIR": str(folders["temporary"]), "OMP_NUM_THREADS": "1"}
    allowed = [folders["runs"], folders["cache"], folders["temporary"]]
    ended = subprocess.run(
        [
            sys.executable,
            "-B",
            "-c",
            WATCHED,
            os.pathsep.join(map(str, allowed)),
            "|".join(map(";".join, (train, again))),
        ],
        env=environment,
        cwd=folders["here"],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.splitlines()[-1] == "OUTSIDE []"
    left = [path.name for name in ("here", "temporary") for path in folders[name].iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []


def test_the_watch_sees_network_and_writes(tmp_path):
    for line, text in (
        ("socket.create_connection(('127.0.0.1', 9))", "network: socket"),
        ("import pickle; pickle.loads(pickle.dumps(Path))", "code from a file"),
    ):
        code = WATCHED[: WATCHED.index("from vitask.cli")] + line
        ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert text in ended.stderr
    elsewhere = Path(tempfile.gettempdir()) / f"{socket.gethostname()}-written"
    code = WATCHED[: WATCHED.index("from vitask.cli")] + f"open({str(elsewhere)!r}, 'w'); print(outside)"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert str(elsewhere.name) in ended.stdout
    elsewhere.unlink()
