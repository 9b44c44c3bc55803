"""The paper's study in small: 12 data sets of 70 classes, one joint TSM, both stages, one row of figures a set."""

from __future__ import annotations

import json

import pytest

SMALL = (
    "tsm.optim.epochs=1",
    "optim.epochs=1",
    "optim.batch_size=16",
    "optim.sampling.one_set_a_step=true",
    "logger.every=5",
    "launch.device=cpu",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twelve_sets_run_as_one(medmnist_root, cli, tmp_path):
    overrides = ["data=medmnist12", f"data.root={medmnist_root}", f"out={tmp_path}/runs", f"cache={tmp_path}/cache"]
    ended = cli("train", "stage=crt", *overrides, *SMALL, "objective.csa=1")
    assert ended.code == 0, ended
    (run,) = (tmp_path / "runs/medmnist12").glob("crt-*")
    environment = json.loads((run / "environment.json").read_text())
    assert len(environment["labels"]) == 70
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rates = [row["without_negative"] for row in rows if "without_negative" in row]
    assert rates
    assert max(rates) < 0.2, "a step of one set holds an image with another answer for nearly every sample"
    ended = cli("evaluate", f"run={run}", "exemplar=on", "generate=false")
    assert ended.code == 0, ended
    table = [line.split("|")[1].strip() for line in ended.out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 12 + 1
    assert table[-1] == "mean"
    sets = json.loads((run / "eval/test-on/metrics.json").read_text())["sets"]
    assert {name for name, each in sets.items() if "label_accuracy" in each} == {"chestmnist"}
    assert {name for name, each in sets.items() if "kappa" in each} == {"retinamnist"}
    assert sum(len(each["labels"]) for each in sets.values()) == 92
