"""`scripts/kill_runs.py`: three kills in the suite, `VITASK_KILLS=50` of them when asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_runs.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_runs_end_bit_for_bit_like_undisturbed_ones():
    kills = int(os.environ.get("VITASK_KILLS", "3"))
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", str(kills)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    last = ended.stdout.splitlines()[-1]
    assert re.match(
        rf"{kills} kills over {min(kills, 8)} kinds of runs, \d+ of them before the first checkpoint: {kills} ended",
        last,
    )
    print(last)
