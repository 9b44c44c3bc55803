"""An evaluation in which the model gives everything one answer says so, on the screen and in its figures."""

from __future__ import annotations

import json

import pytest

SAYS = "the model has collapsed to one answer"


@pytest.fixture
def evaluated(small, cli, tmp_path):
    """Train a TSM with these settings and evaluate it on its 24 training images; what each printed, and the figures."""

    def run(*settings: str):
        trained = cli("train", "stage=tsm", *small, f"out={tmp_path}", *settings)
        assert trained.code == 0, trained
        (folder,) = (tmp_path / "shapes").iterdir()
        ended = cli("evaluate", f"run={folder}", "split=train")
        assert ended.code == 0, ended
        (metrics,) = folder.glob("eval/train*/metrics.json")
        return trained.out, ended.out, json.loads(metrics.read_text())

    return run


def test_a_collapsed_run_is_said_and_recorded(evaluated, monkeypatch, tmp_path):
    """At a rate of 0 the fresh head stays as it was drawn, and prefers one class."""
    monkeypatch.setattr("vitask.evaluation.collapse.FEWEST", 9)  # the images of the validation split
    trained, said, figures = evaluated("tsm.optim.lr=0", "data.label_noise=0")
    (warning,) = figures["warnings"]
    assert warning.startswith("100% of 24 predictions are '")
    assert warning.endswith(SAYS)
    assert f"warning: shapes, train: {warning}" in said
    assert figures["accuracy"] == pytest.approx(1 / 3)
    (summary,) = (tmp_path / "shapes").glob("*/summary.json")
    (of_training,) = json.loads(summary.read_text())["warnings"]
    assert of_training["warning"].startswith("TSM, shapes, validation split: 100% of 9 predictions are '")
    assert f"warning: {of_training['warning']}" in trained


@pytest.mark.slow
def test_a_run_that_learnt_is_not(evaluated):
    trained, said, figures = evaluated("tsm.optim.epochs=20", "tsm.optim.batch_size=8")
    assert figures["accuracy"] > 0.6
    assert "warnings" not in figures
    assert SAYS not in trained + said
