"""`vitask ablate`: a grid is trained once, evaluated, and put into one table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import vitask.runs.ablate as module
from tests.conftest import hear_ctrl_c

MINE = """\
defaults:
  - base
title: my grid
base: [stage=crt]
rows:
  vanilla: [objective=vanilla]
  joint: [objective=joint]
  + CRT: [objective=crt]
evaluations:
  test: {options: [ranking=true]}
  pale, plug: {"on": [data.shift.contrast=0.5], plug: true, rows: [joint]}
  probe: {options: [probe=embedded], rows: [joint]}
effects:
  EP: {of: [joint, "on"], over: [vanilla], metric: accuracy, expected: up}
  forgets: {of: [joint, "off", probe], over: [joint, untuned, probe], metric: perplexity, expected: none}
columns: {accuracy: accuracy, macro-F1: macro_f1, perplexity: perplexity}
figure: bars
shown: {TSM: [vanilla, tsm], joint: [joint, "on"]}
workers: 1
"""
LONG = """\
defaults:
  - base
title: a grid that would take minutes
base: [stage=vanilla]
rows:
  vanilla: []
seeds: [3, 4]
workers: 1
"""
FAILING = """\
defaults:
  - base
title: a grid of which one row fails
base: [stage=vanilla]
rows:
  vanilla: []
  worse: [optim.lr=1e10, optim.clip=0, optim.warmup=0]
seeds: [3]
"""


@pytest.fixture(autouse=True)
def grids(tmp_path, monkeypatch) -> Path:
    """A folder with two grids of one's own."""
    folder = tmp_path / "configs" / "ablation"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(MINE)
    (folder / "failing.yaml").write_text(FAILING)
    (folder / "long.yaml").write_text(LONG)
    monkeypatch.setenv("VITASK_CONFIG_DIR", str(folder.parent))
    return folder.parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_grid_is_trained_evaluated_and_not_repeated(small, shapes, tmp_path, cli):
    image = shapes / "test/bar/0.png"
    (tmp_path / "words.csv").write_text(f"image,prompt,answer\n{image},Repeat: nine,nine\n{image},Repeat: ten,ten\n")
    grid = ["ablate", "mine", "split=val", f"evaluations.probe.options=['probe={tmp_path / 'words.csv'}']"]
    ended = cli(*grid, *small, f"out={tmp_path}")
    assert ended.code == 0, ended
    folder = tmp_path / "ablations" / "mine"
    table = (folder / "table.md").read_text()
    assert table in ended.out
    assert "## my grid" in table
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    header, body = lines[0], {line[0]: line[1:] for line in lines[2:8]}
    own = ["w/o EP, accuracy", "w/o EP, macro-F1", "w/ EP, accuracy", "w/ EP, macro-F1"]
    probed = [f"probe: {state}, perplexity" for state in ("before tuning", "w/o EP")]
    assert header == ["val, n = 9", *own, *(f"pale, plug: {name}" for name in own), *probed]
    assert list(body)[:5] == ["TSM", "majority class", "vanilla", "joint", "+ CRT"]
    assert body["majority class"] == ["0.333 ± 0.000", "0.167 ± 0.000", "", ""] * 2 + ["-", ""]
    assert body["vanilla"][2:] == ["-"] * 8
    assert "-" not in body["joint"]
    assert "| EP      |   accuracy |" in table
    assert "<svg" in (folder / "figure.svg").read_text()
    results = json.loads((folder / "results.json").read_text())
    assert set(results["results"]) == {"0", "1"}
    modes = {row: [found["mode"] for found in one] for row, one in results["results"]["0"].items()}
    assert modes == {"vanilla": ["off"], "joint": ["off", "on"] * 2 + ["untuned", "off"], "+ CRT": ["off", "on"]}
    of_joint = results["results"]["0"]["joint"]
    assert [("ranking" in found, "pairs" in found) for found in of_joint[:2]] == [(True, True), (False, False)]
    assert [found["evaluation"] for found in of_joint] == ["test"] * 2 + ["pale, plug"] * 2 + ["probe"] * 2
    assert "shift" in " ".join(of_joint[2]["conditions"]).lower()
    assert of_joint[2]["tsm"] != of_joint[0]["tsm"], "the TSM of the shifted data took the place of the run's own"
    asked = [found for row in results["results"]["0"].values() for found in row if "probe" not in found]
    assert all(found["tsm"] for found in asked), "vanilla has the TSM beside"
    runs = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "shapes").iterdir())
    stages = ["crt"] * 3 + ["ep"] * 2 + ["tsm"] * 2
    assert runs == sorted(f"{stage}-seed{seed}" for stage in stages for seed in (0, 1)), "joint and + CRT share stage 1"

    assert cli("report", str(folder), str(tmp_path / "shapes"), f"out={tmp_path / 'report'}").code == 0
    tables = (tmp_path / "report/tables.md").read_text()
    assert "Retention: words" in tables
    assert "my grid: test" in tables
    assert "my grid: probe" not in tables, "the grid's own tables leave to that one what the probe found"

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shapes").rglob("*")}
    again = cli(*grid, *small, f"out={tmp_path}")
    assert again.code == 0, again
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "shapes").rglob("*")} == before
    assert (folder / "table.md").read_text() == table


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_row_that_fails_ends_the_grid_and_names_its_log(small, tmp_path, cli):
    ended = cli("ablate", "failing", *small, f"out={tmp_path}")
    assert ended.refuses(1, "seed 3: step ", "loss part", "seed3.log")
    finished = [path.parent for path in (tmp_path / "shapes").glob("*/summary.json")]
    assert len(finished) == 1


def members(session: int) -> list[psutil.Process]:
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_grid_that_is_told_to_stop_takes_its_workers_along(small, tmp_path):
    """SIGTERM goes to the grid, Ctrl-C to everybody in its terminal; neither may begin the next seed."""
    grids = {}
    for name in ("SIGTERM", "Ctrl-C"):
        words = ["ablate", "long", *small, "optim.epochs=200", f"out={tmp_path / name}"]
        grids[name] = subprocess.Popen(
            [sys.executable, "-m", "vitask", *words],
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        for name, grid in grids.items():
            while not list(tmp_path.glob(f"{name}/shapes/*/log.jsonl")):
                assert grid.poll() is None, grid.stderr.read()
                time.sleep(0.2)
        grids["SIGTERM"].terminate()
        os.killpg(grids["Ctrl-C"].pid, signal.SIGINT)
        for name, grid in grids.items():
            _, said = grid.communicate(timeout=60)
            assert grid.returncode == 130, said
            assert "the same command resumes" in said
            assert len(list(tmp_path.glob(f"{name}/shapes/*/log.jsonl"))) == 1
            (log,) = tmp_path.glob(f"{name}/shapes/*/log.jsonl")
            last = json.loads(log.read_text().splitlines()[-1])["step"]
            assert (log.parent / f"checkpoints/step-{last:08d}").is_dir(), "the last step was saved, not an epoch's end"
            assert not psutil.wait_procs(members(grid.pid), timeout=10)[1]
    finally:
        for grid in grids.values():
            with suppress(ProcessLookupError):
                os.killpg(grid.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("earlier", "words", "shown"),
    [
        (["objective.alpha=0.3"], ["objective.alpha=3"], "objective.alpha=0.3"),
        (["objective.alpha=0.3"], [], "objective.alpha=0.3"),
        ([], ["objective.alpha=3"], "no settings of its own"),
        (["objective.alpha=1,3"], ["objective.alpha=3,10"], "objective.alpha=1, objective.alpha=3"),
        (["objective.alpha=1,3"], ["objective.beta=1,3"], "objective.alpha=1, objective.alpha=3"),
        (["objective.alpha=1,3"], ["objective.alpha=1,3,10", "seeds=[0,1,2]"], None),
        (["out=a", "optim.lr=0.1", "tag=b"], ["tag=b", "optim.lr=0.1", "seeds=[0,1,2]", "workers=1"], None),
    ],
)
def test_the_results_of_other_settings_are_not_replaced(earlier, words, shown, tmp_path, cli, monkeypatch):
    monkeypatch.setattr(module, "_run_all", lambda plans, grid, folder: {seed: {} for seed in plans})
    monkeypatch.setattr(module, "write_results", lambda folder: (folder / "table.md").write_text(""))
    assert cli("ablate", "sweep", *earlier, f"out={tmp_path}").code == 0
    results = tmp_path / "ablations/sweep/results.json"
    before = results.read_text()
    ended = cli("ablate", "sweep", *words, f"out={tmp_path}")
    if shown is None:
        assert ended.code == 0, ended
        assert list(json.loads(results.read_text())["results"]) == ["0", "1", "2"]
    else:
        assert ended.refuses(2, f"has the results of {shown}", "rename or remove that folder")
        assert results.read_text() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["sweep", "objective.csa=0,1", "objective.closed_set.teacher=out_of_fold"],
            ["row 'objective.csa=1': ", "tsm.folds=5"],
        ),
        (["sweep", "seeds=[0,-1]"], ["seeds: -1 is out of range"]),
        (["mine", "evaluations.test.on=['data.train_fraction=3']"], ["row 'vanilla': data.train_fraction: 3.0 is out"]),
        (["mine", "evaluations.test.options=['exemplr=on']"], ["row 'vanilla': ", "Did you mean 'exemplar'?"]),
        (["sweep", "objective=vanilla", "evaluations.test.options=['exemplar=on']"], ["trained without exemplar"]),
        (["sweep", "stage=all"], ["stage=all: a row of a grid is one run; say which, stage=crt"]),
        (["sweep", "launch.processes=2"], ["launch: several processes are started by `vitask train` alone"]),
        (["mine", "evaluations.test.on=['data.size=64']"], ["row 'vanilla': data.size: digits is embedded"]),
    ],
)
def test_what_would_be_refused_is_named_before_anything_begins(words, said, tmp_path, cli):
    out = tmp_path / "runs"
    assert cli("ablate", *words, f"out={out}").refuses(2, *said)
    assert not out.exists()
