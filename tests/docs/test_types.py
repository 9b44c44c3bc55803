"""mypy finds nothing in what others import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    """What mypy has read once."""
    pytest.importorskip("mypy")
    return str(tmp_path_factory.mktemp("mypy"))


@pytest.mark.slow
def test_the_public_surface_is_typed(cache):
    words = [sys.executable, "-m", "mypy", "--cache-dir", cache]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_wrong_call_of_it_is_noticed(cache, tmp_path):
    (tmp_path / "user.py").write_text("import vitask\n\nvitask.compose(3)\nvitask.train('stage=ep')[0].nme\n")
    config = str(ROOT / "pyproject.toml")
    words = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", cache, "user.py"]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert [line.split(":")[1] for line in ended.stdout.splitlines() if "error:" in line] == ["3", "4"], ended.stdout
