"""What a fresh process loads: help is quick, and libraries come only where they are needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from vitask.cli.main import VERBS

HEAVY = ["torch", "transformers", "timm", "peft", "datasets", "hydra", "wandb", "accelerate", "numpy"]


def loaded(program: str) -> tuple[set[str], float, str]:
    """Run a program in a fresh process; return which of the heavy libraries it loaded, its seconds and its output."""
    tail = f"\nimport sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]), file=sys.stderr)"
    started = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", program + tail], capture_output=True, text=True, timeout=120)
    seconds = time.perf_counter() - started
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stderr.splitlines()[-1])), seconds, run.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        [],
        *([verb, "--help"] for verb in VERBS),
    ],
)
def test_help_loads_nothing_heavy_and_is_quick(arguments):
    found, seconds, out = loaded(f"from vitask.cli.main import main; main({arguments!r})")
    print(f"{arguments}: {seconds:.2f} s")
    assert found == set()
    assert "vitask" in out
    assert seconds < 2, "less than 1 s on an idle machine"


def test_composing_a_config_loads_no_torch():
    found, _, out = loaded("from vitask.config.compose import compose_config; print(compose_config('train', []).seed)")
    assert out == "0\n"
    assert not found & {"torch", "transformers", "timm", "datasets", "accelerate"}


def test_a_wrong_key_is_refused_before_anything_heavy_is_loaded():
    program = (
        "from vitask.cli.main import main\ntry: main(['train', 'sed=1'])\nexcept SystemExit as e: assert e.code == 2"
    )
    found, _, _ = loaded(program)
    assert not found & {"torch", "transformers", "timm", "datasets", "accelerate"}


def test_the_losses_load_torch_and_no_other_library():
    found, _, _ = loaded("import vitask.losses")
    assert found - {"numpy"} == {"torch"}


def test_reporting_loads_no_torch():
    found, _, _ = loaded("import vitask.reporting.table, vitask.reporting.ablation, vitask.reporting.comparison")
    assert found == set()
