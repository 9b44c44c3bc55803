"""What must not depend on how a step is computed: its form, and where image features come from."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from vitask.vlm import packed


def weights(run) -> dict[str, torch.Tensor]:
    return {
        key: tensor
        for path in sorted((run / "model").rglob("*.safetensors"))
        for key, tensor in load_file(path).items()
    }


def log(run) -> list[dict[str, float]]:
    timing = {"samples_per_second", "seconds"}
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in timing} for row in rows]


def train(cli, pipeline, out, stage: str, *overrides: str):
    arguments = [word for word in pipeline.arguments if not word.startswith("out=")]
    ended = cli("train", f"stage={stage}", *arguments, f"out={out}", *overrides)
    assert ended.code == 0, ended
    (run,) = (out / "shapes").glob(f"{stage}-seed0-*")
    return run, ended


def assert_alike(first, second, tolerance: float) -> None:
    """The same curves and weights, up to the order of summation in float32."""
    for row, other in zip(log(first), log(second), strict=True):
        assert row == pytest.approx(other, rel=tolerance, abs=tolerance)
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < tolerance


@pytest.mark.slow
def test_packed_and_plain_steps_train_the_same_model(pipeline, cli, tmp_path):
    objective = ("objective.csa=1", "objective.ranking=0.5")
    runs = [train(cli, pipeline, tmp_path / step, "crt", f"step={step}", *objective)[0] for step in ("packed", "plain")]
    assert {"vanilla", "ep", "rda", "crt", "csa", "ranking", "without_negative"} <= log(runs[0])[0].keys()
    assert_alike(*runs, tolerance=2e-3)


@pytest.mark.slow
def test_kept_image_features_train_the_same_model(pipeline, cli, tmp_path):
    cached, ended = train(cli, pipeline, tmp_path / "cached", "ep", "vlm.feature_cache_gb=1", f"cache={tmp_path}/cache")
    assert len(list((tmp_path / "cache/image-features").glob("*.safetensors"))) == 1
    assert "vision tower" not in ended.out
    assert cached.name == pipeline.run("ep").name
    assert_alike(cached, pipeline.run("ep"), tolerance=1e-4)
    small, ended = train(cli, pipeline, tmp_path / "small", "ep", "vlm.feature_cache_gb=1e-6", f"cache={tmp_path}/none")
    assert ended.out.count("over the budget") == 1
    assert_alike(small, pipeline.run("ep"), tolerance=1e-6)


@pytest.mark.slow
def test_features_of_an_encoder_that_trains_are_not_kept(pipeline, cli, tmp_path):
    _, ended = train(cli, pipeline, tmp_path, "vanilla", "vlm.feature_cache_gb=1", "vlm.train_projector=true")
    assert "the image encoder trains" in ended.out


def test_a_model_that_takes_no_tree_mask_falls_back_with_one_line(pipeline, cli, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MASKED_ATTENTION", ("eager",))
    run, ended = train(cli, pipeline, tmp_path, "vanilla")
    assert ended.out.count("vlm.attention=sdpa takes no tree mask") == 1
    assert_alike(run, pipeline.run("vanilla"), tolerance=1e-3)


def test_eager_attention_trains_the_same_packed_model(pipeline, cli, tmp_path):
    run, ended = train(cli, pipeline, tmp_path, "vanilla", "vlm.attention=eager")
    assert "tree mask" not in ended.out
    assert_alike(run, pipeline.run("vanilla"), tolerance=1e-3)


def test_closed_set_alignment_needs_the_tsm_but_neither_exemplar_nor_connector(pipeline, cli, tmp_path):
    run, ended = train(cli, pipeline, tmp_path, "ep", "objective=csa")
    assert "stage ep needs stage tsm" in ended.out
    assert not (run / "model/connector.safetensors").exists()
    assert log(run)[0].keys() >= {"vanilla", "csa"}
    assert cli("evaluate", f"run={run}").code == 0
    assert [path.name for path in (run / "eval").iterdir()] == ["test-off"]


def test_closed_set_ranking_needs_no_tsm(pipeline, cli, tmp_path):
    run, ended = train(cli, pipeline, tmp_path, "ep", "objective=ranking", "objective.closed_set.limit=2")
    assert "tsm" not in ended.out
    assert log(run)[0]["ranking"] > 0
