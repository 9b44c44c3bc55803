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
    assert header == ["val, n = 9", "w/o EP, accuracy", "w/o EP, macro-F1", "w/ EP, accuracy", "w/ EP, macro-F1"]
    assert list(body)[:5] == ["TSM", "majority class", "vanilla", "joint", "+ CRT"]
    assert body["majority class"] == ["0.333 ± 0.000", "0.167 ± 0.000", "", ""]
    assert body["vanilla"][2:] == ["-", "-"]
    results = json.loads((folder / "results.json").read_text())
    assert set(results["results"]) == {"0", "1"}
    modes = {row: [found["mode"] for found in one] for row, one in results["results"]["0"].items()}
    assert modes == {"vanilla": ["off"], "joint": ["off", "on"], "+ CRT": ["off", "on"]}
    assert "needs stage tsm" in (folder / "seed0.log").read_text()
    runs = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "shapes").iterdir())
    stages = ["crt"] * 3 + ["ep"] * 2 + ["tsm"]
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
