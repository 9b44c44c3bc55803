"""Two ranks do what one does, step by step and in whole runs; batches of any size and caches change nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitask.training.sampling import rank_share
from vitask.training.shares import Shares
from vitask.training.vitask_data import NO_NEGATIVE

from ..conftest import call
from .toy import build, compare, trained
from .worker import CASES, RESUMED


def outcome(run: Path) -> dict:
    """Weights and log of a run."""
    weights = {
        f"{path.name}:{key}": tensor
        for path in sorted(run.glob("*/**/*.safetensors"))
        for key, tensor in load_file(path).items()
    }
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {"weights": weights, "rows": [{k: v for k, v in row.items() if k != "samples_per_second"} for row in lines]}


def scores(folder: Path) -> list[list[float]]:
    """The numbers of `predictions.csv`, row by row, ids checked to be there once."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows)
    return [[float(value) for value in row.values() if _is_number(value)] for row in rows]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("e-", "", 1).replace("-", "").isdecimal()


def largest(one: list[list[float]], other: list[list[float]]) -> float:
    assert [len(row) for row in one] == [len(row) for row in other]
    return max(abs(a - b) for row, again in zip(one, other, strict=True) for a, b in zip(row, again, strict=True))


@pytest.fixture(scope="module")
def one_rank(two_ranks, tmp_path_factory) -> dict[str, Path]:
    """The runs of the two ranks, by one."""
    out = tmp_path_factory.mktemp("one")
    for stage in ("all", "head"):
        ended = call(["train", f"stage={stage}", *two_ranks.overrides, f"out={out}"])
        assert ended.code == 0, ended
    return {path.name.split("-")[0]: path for path in (out / "shapes").iterdir()}


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_all_commands_of_two_ranks_end_well_and_one_of_them_speaks(two_ranks):
    assert [each.code for each in two_ranks.main] == [0] * len(two_ranks.main), two_ranks.main
    assert [each.code for each in two_ranks.other] == [0] * len(two_ranks.other), two_ranks.other
    assert [each.out for each in two_ranks.other] == [""] * len(two_ranks.other)
    lines = [line.split(":")[0] for line in two_ranks.main[0].out.splitlines() if " of training, " in line]
    assert lines == ["tsm", "vanilla", "ep", "crt"]
    assert two_ranks.main[0].out.count("what trains") == 3
    assert not list(two_ranks.folder.rglob("*.tmp"))


@pytest.mark.parametrize("stage", ["tsm", "head", "vanilla", "ep", "crt"])
def test_two_ranks_train_what_one_trains(two_ranks, one_rank, equal, stage):
    found, wanted = outcome(two_ranks.run("whole", stage)), outcome(one_rank[stage])
    compare(equal, f"two ranks, run of {stage}", found, wanted)


@pytest.mark.parametrize("stage", ["ep", "crt"])
def test_two_ranks_that_share_the_model_train_what_one_trains(two_ranks, one_rank, equal, stage):
    found, wanted = outcome(two_ranks.run("split", stage)), outcome(one_rank[stage])
    compare(equal, f"two ranks, sharded run of {stage}, plain form", found, wanted)


@pytest.mark.parametrize(
    ("stage", "name", "options"),
    [
        ("crt", "test-on", []),
        ("crt", "test-off", []),
        ("crt", "val-off", ["exemplar=off", "ranking=true", "split=val"]),
        ("head", "test-off", []),
    ],
)
def test_two_ranks_evaluate_what_one_evaluates(two_ranks, tmp_path, equal, stage, name, options):
    folder = two_ranks.run("whole", stage) / "eval" / name
    found, figures = scores(folder), json.loads((folder / "metrics.json").read_text())
    ended = call(["evaluate", f"run={folder.parents[1]}", "device=cpu", "overwrite=true", "batch_size=5", *options])
    assert ended.code == 0, ended
    again = json.loads((folder / "metrics.json").read_text())
    equal(f"two ranks, evaluation of {stage}, {name}", largest(found, scores(folder)), 1e-5)
    assert again.keys() == figures.keys()
    for key in ("samples", "accuracy", "macro_f1", "generated", "ranking"):
        assert again.get(key) == pytest.approx(figures.get(key), abs=1e-5), key


@pytest.mark.parametrize("mode", ["off", "on"])
def test_batches_of_any_size_give_one_evaluation(own_pipeline, equal, mode):
    run, kept = own_pipeline.run("crt"), {}
    for size in (1, 5, 64):
        ended = call(
            ["evaluate", f"run={run}", f"exemplar={mode}", "device=cpu", "overwrite=true", f"batch_size={size}"]
        )
        assert ended.code == 0, ended
        kept[size] = scores(run / f"eval/test-{mode}")
    for size in (1, 5):
        equal(f"evaluation, {mode}, batches of {size}", largest(kept[size], kept[64]), 1e-5)


CACHES = {
    "image features on disk": (["vlm.feature_cache_gb=1"], 1e-5),
    "exemplars computed anew": (["cache={tmp}/cache"], 0),
}


@pytest.mark.parametrize("name", CACHES)
def test_caches_change_nothing(own_pipeline, tmp_path, equal, name):
    """Twice each: the first run fills the cache, the second reads it."""
    words, allowed = CACHES[name]
    options = [word.format(tmp=tmp_path) for word in words]
    wanted = outcome(own_pipeline.run("ep"))
    for filled in ("empty", "filled"):
        arguments = [*own_pipeline.arguments, *options, "overwrite=true"]
        ended = call(["train", "stage=ep", *arguments, f"cache={tmp_path}/cache"])
        assert ended.code == 0, ended
        (run,) = [each for each in (own_pipeline.out / "shapes").glob("ep-*") if (each / "log.csv").is_file()][-1:]
        found = outcome(run)
        weights = max((each - wanted["weights"][key]).abs().max().item() for key, each in found["weights"].items())
        equal(f"ep, {name}, {filled}", weights, allowed)
    assert all(torch.isfinite(each).all() for each in found["weights"].values())


@pytest.mark.parametrize("case", CASES)
def test_two_ranks(accelerator, reference, two_ranks, equal, case):
    changes = {name: value for name, value in CASES[case].items() if name not in ("sharded", "micro_batch_size")}
    compare(equal, f"two ranks: {case}", two_ranks.cases[case], reference(accelerator, **changes))


def test_a_rank_without_valid_negative_is_among_the_cases():
    """In the steps of the toy, one rank's samples have no negative while the other's do."""
    _, data = build("crt", negatives="one-sided")
    lonely = []
    for epoch in range(2):
        steps = Shares([0] * 10, [0] * 10).steps(7, seed=0, epoch=epoch)
        for step in data.keys(epoch, steps):
            shares = [[key[2] != NO_NEGATIVE for key in rank_share(step, rank, 2)] for rank in range(2)]
            lonely.append(any(map(any, shares)) and not all(map(any, shares)))
    assert any(lonely)


@pytest.mark.parametrize("name", ["sharded again", "whole again"])
def test_a_sharded_run_resumes_on_any_number_of_ranks(accelerator, reference, two_ranks, equal, name):
    wanted = reference(accelerator, stage="crt")
    alone = {key: value for key, value in RESUMED.items() if key != "sharded"}
    found = two_ranks.cases.get(name) or trained(two_ranks.folder / name, accelerator, **alone)
    compare(equal, f"interrupted while sharded, {name}", found, wanted)
