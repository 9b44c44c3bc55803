"""What several tests of runs need: questions and answers in words about generated pictures, and runs on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import call

SCRIPT = Path(__file__).parents[2] / "scripts/shape_questions.py"


@pytest.fixture(scope="session")
def questions(tmp_path_factory) -> Path:
    """Forty pictures with five or so questions each."""
    folder = tmp_path_factory.mktemp("questions")
    subprocess.run([sys.executable, SCRIPT, "--out", folder, "--pictures", "40"], check=True, capture_output=True)
    return folder / "questions.jsonl"


@pytest.fixture(scope="session")
def words(questions, tmp_path_factory) -> tuple[str, ...]:
    """Overrides of a run of seconds that answers in words."""
    return (
        "data=instructions",
        f"data.path={questions}",
        f"cache={tmp_path_factory.mktemp('cache')}",
        "tsm.tune=none",
        "optim.epochs=1",
        "optim.batch_size=64",
        "logger.every=1",
        "launch.device=cpu",
    )


@pytest.fixture(scope="session")
def word_runs(words, tmp_path_factory) -> dict[str, Path]:
    """All stages, CRT's negatives drawn from the whole set and different by half of their words."""
    out = tmp_path_factory.mktemp("runs")
    ended = call(["train", *words, f"out={out}", "objective.crt.negatives=dataset", "objective.crt.max_overlap=0.5"])
    assert ended.code == 0, ended
    runs = {path.name.split("-")[0]: path for path in (out / "questions").iterdir()}
    assert set(runs) == {"tsm", "vanilla", "ep", "crt"}
    return {**runs, "out": out}
