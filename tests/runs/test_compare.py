"""`vitask compare`: what it prints is the paired test of the two runs' predictions."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from vitask.evaluation.uncertainty import mcnemar


def right(run, mode: str) -> np.ndarray:
    """Whether each sample of a run's test split was answered rightly."""
    with (run / "eval" / f"test-{mode}" / "predictions.csv").open(newline="") as file:
        return np.array([row["truth"] == row["prediction"] for row in csv.DictReader(file)])


def table(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]


def test_two_runs_are_evaluated_once_and_compared(own_pipeline, cli, monkeypatch):
    tsm, crt = own_pipeline.run("tsm"), own_pipeline.run("crt")
    ended = cli("compare", tsm, crt, "exemplar=on")
    assert ended.code == 0, ended
    header, _, accuracy, f1 = table(ended.out)
    assert header[:2] == ["test", "n"]
    assert [row[0] for row in (accuracy, f1)] == ["accuracy", "macro-F1"]
    of_tsm, of_crt = right(tsm, "tsm"), right(crt, "on")
    found = mcnemar(of_crt, of_tsm)
    assert accuracy[1:4] == ["12", f"{of_tsm.mean():.3f}", f"{of_crt.mean():.3f}"]
    assert accuracy[6:] == [f"{found['p']:.3f}", str(found["only_base"]), str(found["only_own"])]
    assert ended.out.splitlines()[-3:-1] == [f"A: {tsm}", f"B: {crt}"]
    assert not (crt / "eval/test-off").exists()

    monkeypatch.setattr("vitask.runs.evaluate.Evaluation", None)
    again = cli("compare", tsm, crt, "exemplar=on")
    assert table(again.out) == table(ended.out), "what is there is read, not computed again"
    path = crt / "eval/test-on/predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert cli("compare", tsm, crt, "exemplar=on").refuses(1, "has 12 samples", f"{path} has 11", "not the same split")


@pytest.mark.slow
def test_over_seeds_runs_of_one_seed_are_paired(small, cli, tmp_path):
    """The TSM under two settings and two seeds; the order in which runs are named does not matter."""
    folders: dict[tuple[float, int], object] = {}
    for noise, seed in ((0, 0), (0, 1), (0.25, 0), (0.25, 1)):
        options = [f"out={tmp_path}", f"seed={seed}", f"data.label_noise={noise}"]
        assert cli("train", "stage=tsm", *small, *options).code == 0
        (folders[noise, seed],) = set((tmp_path / "shapes").glob("tsm-*")) - set(folders.values())
    clean, noisy = ([folders[noise, seed] for seed in (0, 1)] for noise in (0, 0.25))
    ended = cli("compare", *clean, "with", *reversed(noisy))
    assert ended.code == 0, ended
    header, _, accuracy, _ = table(ended.out)
    assert header[:2] == ["test", "seeds"]
    assert accuracy[1] == "2"
    differences = [right(b, "tsm").mean() - right(a, "tsm").mean() for a, b in zip(clean, noisy, strict=True)]
    assert accuracy[4] == f"{sum(differences) / 2:+.3f}"
    assert "paired t-test" in ended.out
    assert cli("compare", *clean, "with", noisy[0]).refuses(2, "seed 1 is on one side only")
    assert cli("compare", clean[0], clean[0], "with", *noisy).refuses(2, "both have seed 0")


def test_runs_that_cannot_be_compared(pipeline, cli, tmp_path):
    vanilla = pipeline.run("vanilla")
    assert cli("compare", vanilla, pipeline.run("ep"), "exemplar=on").refuses(2, "was trained without exemplar")
    assert cli("compare", tmp_path / "absent", vanilla).refuses(2, "no run there")
