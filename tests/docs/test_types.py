"""mypy finds nothing in what others import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_public_surface_is_typed(tmp_path):
    pytest.importorskip("mypy")
    words = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_wrong_call_of_it_is_noticed(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("import vitask\n\nvitask.compose(3)\nvitask.train('stage=ep')[0].nme\n")
    config = str(ROOT / "pyproject.toml")
    words = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", str(tmp_path), "user.py"]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert [line.split(":")[1] for line in ended.stdout.splitlines() if "error:" in line] == ["3", "4"], ended.stdout
