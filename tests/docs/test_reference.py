"""The API reference is built without a warning, and holds every public name."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_reference_holds_every_public_name(tmp_path):
    pytest.importorskip("pdoc")
    script = ROOT / "scripts/api_reference.py"
    words = [sys.executable, "-W", "error::UserWarning", str(script), str(tmp_path / "api")]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert "Warn" not in ended.stderr
    for name in ("vitask", "vitask.losses", "vitask.data", "vitask.tsm"):
        page = (tmp_path / "api" / f"{name.replace('.', '/')}.html").read_text()
        shown = set(re.findall(r'<section id="([^".]+)"', page))
        assert shown == set(importlib.import_module(name).__all__)


def test_the_script_of_the_reference_is_bash():
    subprocess.run(["bash", "-n", str(ROOT / "scripts/docs.sh")], check=True, timeout=30)
