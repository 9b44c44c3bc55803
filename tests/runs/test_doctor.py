"""`vitask doctor` says what is wrong with a run before it starts, and nothing where nothing is."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vitask.config.compose import compose_config
from vitask.runs import doctor_machine
from vitask.runs.doctor import examine
from vitask.runs.doctor_machine import Needs, disk_findings, package_findings
from vitask.runs.doctor_model import gradient_finding
from vitask.runs.doctor_step import Step, step_finding
from vitask.runs.findings import in_bytes
from vitask.vlm.connector import Connector
from vitask.vlm.model import ExemplarVLM


def wrong(diagnosis) -> dict[str, str]:
    return {finding.check: finding.text for finding in diagnosis.wrong}


def test_a_run_that_is_fine_is_called_fine_and_nothing_is_written(small, cli, tmp_path):
    ended = cli("doctor", "stage=ep", *small, f"out={tmp_path / 'runs'}")
    assert ended.code == 0, ended
    assert not (tmp_path / "runs").exists()
    sample, *table = ended.out.splitlines()
    assert sample.startswith("ep: <|im_start|>")
    assert sample.index("<IMG_CONTEXT>") < sample.index("<<exemplar x 1>>") < sample.index("Analyze")
    assert " => bar[" in sample or " => b[" in sample
    said = " ".join(" ".join(table).split())
    for text in ("24 train, 9 val, 12 test images, 3 answers", "tsm is not trained yet", "fresh random weights",
                 "3 steps of", "all 34 tensors that train have one", "nothing is wrong"):  # fmt: skip
        assert text in said, text


def test_a_run_on_trained_stages_takes_them(pipeline):
    config = compose_config("train", ["stage=crt", "objective.beta=0.5", *pipeline.arguments])
    diagnosis = examine(config)
    assert not diagnosis.wrong
    texts = [finding.text for finding in diagnosis.findings if finding.check == "earlier stage"]
    assert [str(pipeline.run(stage)) in text for stage, text in zip(("tsm", "ep"), texts, strict=True)] == [True, True]
    assert not list((pipeline.out / "shapes").glob("crt-*-doctor*"))


def test_a_connector_that_nothing_teaches_is_named(small, cli, tmp_path):
    alone = ("objective.ep=0", "objective.alpha=1")
    ended = cli("doctor", "stage=ep", *small, *alone, f"out={tmp_path}")
    said = " ".join(ended.out.split())
    assert ended.code == 1, ended
    assert "vlm.connector.norm.weight" in said
    assert "should train, and got none" in said
    assert "1 of " in said


def test_an_image_and_an_exemplar_that_do_not_arrive_are_seen(small, tmp_path, monkeypatch):
    features, mapped = ExemplarVLM.image_features, Connector.forward
    monkeypatch.setattr(ExemplarVLM, "image_features", lambda self, batch: [part * 0 for part in features(self, batch)])
    monkeypatch.setattr(Connector, "forward", lambda self, exemplars: mapped(self, exemplars) * 0)
    found = wrong(examine(compose_config("train", ["stage=ep", *small, f"out={tmp_path}"])))
    assert "a grey image in its place changes no logit" in found["image"]
    assert "another image's in its place changes no logit" in found["exemplar"]
    assert "connector" in found["ep, gradients"]


def test_what_is_missing_or_finished_is_said(pipeline, small, tmp_path):
    required = ["stage=vanilla", *pipeline.arguments]
    assert "is finished; vitask train will refuse it" in wrong(examine(compose_config("train", required)))["run folder"]
    missing = ["stage=ep", *small, f"out={tmp_path}", "prerequisites=require"]
    assert "run stage=tsm first" in wrong(examine(compose_config("train", missing)))["earlier stage"]


def test_damaged_data_is_a_finding(small, shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "data")
    (tmp_path / "data/train/bar/0.png").write_bytes(b"no image")
    overrides = ["stage=vanilla", *small, f"out={tmp_path / 'runs'}", f"data.root={tmp_path / 'data'}"]
    assert "0.png: cannot read this image" in wrong(examine(compose_config("train", overrides)))["run"]


def test_a_wrong_request_is_no_finding(cli):
    assert cli("doctor", "sed=1").refuses(2, "unknown config key 'sed'. Did you mean 'seed'?")
    assert cli("doctor", "stage=ep", "stage.pipeline=[vanilla]").refuses(2, "does not hold the stage itself")


def test_gradients_are_compared_with_what_should_train():
    task = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    task[0].requires_grad_(False)
    task(torch.ones(1, 2)).sum().backward()
    assert gradient_finding("ep", task).state == "ok"
    task[1].bias.grad = torch.zeros(2)
    assert "1.bias should train, and got none" in gradient_finding("ep", task).text
    task[0].weight.grad = torch.ones(2, 2)
    assert "0.weight should be frozen, and got one" in gradient_finding("ep", task).text


def test_a_loss_that_is_not_finite_is_wrong_and_time_is_estimated():
    optim = SimpleNamespace(batch_size=10)
    step = Step(0.5, 4, {"loss": 1.0, "rda": float("nan")}, None, 1, 2, 3)
    assert "not finite: rda" in step_finding("ep", step, optim, 100).text
    fine = step_finding("ep", Step(0.5, 4, {"loss": 1.0}, None, 1, 2, 3), optim, 100)
    assert "100 steps of 1.50 s: about 2 min" in fine.text
    few = step_finding("tsm", Step(0.5, 4, {"loss": 1.0}, None, 1, 2, 3), optim, 12)
    assert (fine.state, few.state) == ("ok", "note")
    assert "no better than chance, take more (tsm.optim.epochs)" in few.text


def test_disks_are_looked_at(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    out, cache = disk_findings(str(tmp_path / "file"), str(tmp_path / "new" / "cache"), Needs(10, 10))
    assert (out.state, cache.state) == ("wrong", "ok")
    assert "is a file, not a folder" in out.text
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    out, cache = disk_findings(str(tmp_path), str(tmp_path), Needs(6_000_000, 10))
    assert (out.state, cache.state) == ("wrong", "ok")
    assert "5.0 MB free, about 6.0 MB needed: make room" in out.text


def test_packages_are_held_against_their_ranges(monkeypatch):
    assert [finding.state for finding in package_findings("none")] == ["ok"]
    lines = ["torch>=99", "no-such-package>=1", "numpy>=1", "extra-only>=1; extra == 'dev'"]
    monkeypatch.setattr(doctor_machine, "requires", lambda name: lines)
    monkeypatch.setattr(doctor_machine, "find_spec", lambda name: None)
    packages, logger = package_findings("tensorboard")
    assert (packages.state, logger.state) == ("wrong", "wrong")
    assert "torch>=99" in packages.text
    assert "no-such-package" in packages.text
    assert "extra-only" not in packages.text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1400, "1.4 kB"), (2.5e13, "25.0 TB")])
def test_bytes_are_written_for_people(count, text):
    assert in_bytes(count) == text
