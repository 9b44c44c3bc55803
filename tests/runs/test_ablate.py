"""`vitask ablate`: a grid is trained once, evaluated, and put into one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
  test: {}
  pale, plug: {"on": [data.shift.contrast=0.5], plug: true, rows: [joint]}
effects:
  EP: {of: [joint, "on"], over: [vanilla], metric: accuracy, expected: up}
figure: bars
shown: {TSM: [vanilla, tsm], joint: [joint, "on"]}
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
    monkeypatch.setenv("VITASK_CONFIG_DIR", str(folder.parent))
    return folder.parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_grid_is_trained_evaluated_and_not_repeated(small, tmp_path, cli):
    grid = ["ablate", "mine", "split=val"]
    ended = cli(*grid, *small, f"out={tmp_path}")
    assert ended.code == 0, ended
    folder = tmp_path / "ablations" / "mine"
    table = (folder / "table.md").read_text()
    assert table in ended.out
    assert "## my grid" in table
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    header, body = lines[0], {line[0]: line[1:] for line in lines[2:8]}
    own = ["w/o EP, accuracy", "w/o EP, macro-F1", "w/ EP, accuracy", "w/ EP, macro-F1"]
    assert header == ["val, n = 9", *own, *(f"pale, plug: {name}" for name in own)]
    assert list(body)[:5] == ["TSM", "majority class", "vanilla", "joint", "+ CRT"]
    assert body["majority class"] == ["0.333 ± 0.000", "0.167 ± 0.000", "", ""] * 2
    assert body["vanilla"][2:] == ["-"] * 6
    assert "-" not in body["joint"]
    assert "| EP     | accuracy |" in table
    assert "<svg" in (folder / "figure.svg").read_text()
    results = json.loads((folder / "results.json").read_text())
    assert set(results["results"]) == {"0", "1"}
    modes = {row: [found["mode"] for found in one] for row, one in results["results"]["0"].items()}
    assert modes == {"vanilla": ["off"], "joint": ["off", "on"] * 2, "+ CRT": ["off", "on"]}
    of_joint = results["results"]["0"]["joint"]
    assert [found["evaluation"] for found in of_joint] == ["test", "test", "pale, plug", "pale, plug"]
    assert "shift" in " ".join(of_joint[2]["conditions"]).lower()
    assert of_joint[2]["tsm"] != of_joint[0]["tsm"], "the TSM of the shifted data took the place of the run's own"
    assert all(found["tsm"] for row in results["results"]["0"].values() for found in row), "vanilla has the TSM beside"
    runs = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "shapes").iterdir())
    stages = ["crt"] * 3 + ["ep"] * 2 + ["tsm"] * 2
    assert runs == sorted(f"{stage}-seed{seed}" for stage in stages for seed in (0, 1)), "joint and + CRT share stage 1"

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


def test_a_row_that_would_be_refused_is_named_before_anything_begins(tmp_path, cli):
    out = tmp_path / "runs"
    ended = cli("ablate", "sweep", "objective.csa=0,1", "objective.closed_set.teacher=out_of_fold", f"out={out}")
    assert ended.refuses(2, "row 'objective.csa=1': ", "tsm.folds=5")
    assert not out.exists()
