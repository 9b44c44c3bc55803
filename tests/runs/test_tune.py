"""Stage `tsm` beyond plain training: a frozen encoder, a linear probe, averaged weights, mixed images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file

from vitask.config.build import build_average, build_task, build_tsm
from vitask.config.compose import compose_config
from vitask.runs.folder import RunFolder
from vitask.runs.identity import run_folder
from vitask.runs.train_tsm import BestTSM, train_tsm, tsm_meta
from vitask.training.loop import Loop
from vitask.tsm import load_tsm, save_tsm, weights_digest

from ..tsm.tiny import make_tsm

STRONG = ("tsm.ema=0.9", "tsm.mixup=0.4", "tsm.cutmix=1", "tsm.optim.epochs=3", "tsm.optim.batch_size=8")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "tsm" / "tsm.safetensors")


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def trained(cli, out: Path, *overrides: str) -> Path:
    """Train stage tsm into a folder of its own and return the run."""
    ended = cli("train", "stage=tsm", *overrides, f"out={out}")
    assert ended.code == 0, ended
    (run,) = out.glob("*/tsm-*")
    return run


def untrained(*overrides: str) -> dict[str, torch.Tensor]:
    """The weights that a run of three classes begins with."""
    config = compose_config("train", ["stage=tsm", *overrides])
    set_seed(config.seed)
    return build_tsm(config.tsm, 3).state_dict()


def test_a_probe_trains_the_head_and_nothing_else(cli, small, tmp_path):
    run = trained(cli, tmp_path, *small, "tsm.tune=head", "tsm.optim.epochs=2")
    before, after = untrained(*small, "tsm.tune=head"), weights(run)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}
    found = summary(run)
    assert (found["tune"], found["steps"], found["cost"]["trained_parameters"]) == ("head", 2, 3 * 96 + 3)
    assert found["cost"]["total_parameters"] > found["cost"]["trained_parameters"]
    assert cli("evaluate", f"run={run}").code == 0


@pytest.fixture(scope="module")
def untuned(small, tmp_path_factory):
    """Overrides of a pipeline whose exemplars come from an encoder that nothing trains, and its stage-1 run."""
    from ..conftest import call

    out = tmp_path_factory.mktemp("untuned")
    overrides = [*small, "tsm.tune=none", f"out={out}"]
    ended = call(["train", "stage=ep", "objective.ranking=1", "objective.closed_set.limit=2", *overrides])
    assert ended.code == 0, ended
    assert "the encoder's weights are random" in ended.out
    return overrides, out / "shapes"


def test_an_encoder_is_kept_as_it_comes(untuned, small):
    overrides, runs = untuned
    (run,) = runs.glob("tsm-*")
    found, before = summary(run), untrained(*overrides)
    assert (found["tune"], found["steps"], found["cost"]["trained_parameters"]) == ("none", 0, 0)
    assert not any(name.startswith("backbone.fc") for name in before)
    assert all(torch.equal(value, before[name]) for name, value in weights(run).items())
    assert not (run / "log.jsonl").exists()


def test_a_vlm_sees_its_exemplars_and_the_table_leaves_the_tsm_out(untuned, cli):
    (run,) = untuned[1].glob("ep-*")
    ended = cli("evaluate", f"run={run}", "generate=false")
    assert ended.code == 0, ended
    rows = [line.split("|")[1].strip() for line in ended.out.splitlines() if line.startswith("| ")]
    assert rows == ["test, n = 12", "VLM without exemplar", "VLM with exemplar", "majority class"]
    for mode in ("off", "on"):
        assert json.loads((run / f"eval/test-{mode}/metrics.json").read_text())["tsm"] is None


def test_nobody_asks_it_for_class_probabilities(untuned, cli, shapes):
    overrides, runs = untuned
    (run,), before = runs.glob("tsm-*"), set(runs.iterdir())
    cli("evaluate", f"run={run}").refuses(2, "tsm.tune=none", "no class probabilities", "tsm.tune=head")
    cli("predict", f"run={run}", str(shapes / "test/bar/0.png")).refuses(2, "tsm.tune=none", "no class probabilities")
    for stage in ("ep", "all"):
        ended = cli("train", f"stage={stage}", "objective=csa", *overrides)
        assert ended.refuses(2, "objective.csa", "tsm.tune=none", "tsm.tune=head")
    assert set(runs.iterdir()) == before


@pytest.mark.slow
def test_data_sets_of_a_mixture_share_it(cli, small, shapes, tmp_path):
    settings = [word for word in small if not word.startswith("data")]
    member = f"{{source: image_folder, root: {shapes}}}"
    members = f"data.members={{a: {member}, b: {member}}}"
    arguments = ["data=mixture", members, *settings, "tsm.tune=none", f"out={tmp_path}"]
    ended = cli("train", "stage=ep", *arguments)
    assert ended.code == 0, ended
    (run,) = tmp_path.glob("mixture/ep-*")
    ended = cli("evaluate", f"run={run}", "generate=false", "split=val")
    assert ended.code == 0, ended
    metrics = json.loads((run / "eval/val-on/metrics.json").read_text())
    assert metrics["sets"].keys() == {"a", "b"}
    assert metrics["tsm"] is None


def test_the_recipe_of_what_does_not_train_does_not_count():
    def folder(*overrides: str) -> Path:
        return run_folder(compose_config("train", ["stage=tsm", *overrides]))

    assert folder("tsm.tune=none") == folder("tsm.tune=none", "tsm.optim.lr=1", "tsm.mixup=1", "tsm.ema=0.9")
    assert folder("tsm.tune=none") != folder("tsm.tune=none", "tsm.name=resnet34")
    options = ("tune=head", "ema=0.9", "mixup=0.2", "cutmix=0.2", "tune=none")
    assert len({folder(), *(folder(f"tsm.{option}") for option in options)}) == 6


def test_the_shipped_encoder_takes_images_of_its_size():
    config = compose_config("train", ["tsm=frozen_dinov2", "tsm.pretrained=false"])
    tsm = build_tsm(config.tsm, 7)
    assert (config.tsm.tune, tsm.num_classes, tsm.frozen) == ("none", 0, True)
    assert tsm.data_config["input_size"] == [3, 224, 224]
    assert (tsm.num_tokens("cls"), tsm.num_tokens("patches"), tsm.feature_dim("cls")) == (1, 256, 384)
    assert compose_config("train", ["tsm=frozen_dinov2"]).tsm.pretrained


def test_the_average_is_that_of_the_weights_after_each_step():
    """timm's decay: nothing of the first weights is left, then 1 - (1 + n) ** (-2 / 3), at most what was asked for."""
    config = compose_config("train", ["tsm.ema=0.8"]).tsm
    tsm = make_tsm()
    average = build_average(config, tsm)
    expected: dict[str, torch.Tensor] = {}
    for step in range(1, 30):
        with torch.no_grad():
            for tensor in tsm.state_dict().values():
                tensor.copy_(torch.randn(tensor.shape)) if tensor.is_floating_point() else tensor.add_(1)
        average.update(tsm, step)
        decay = min(0.8, 1 - step ** (-2 / 3))
        for name, tensor in tsm.state_dict().items():
            old = expected.get(name, torch.zeros_like(tensor)).double()
            mean = decay * old + (1 - decay) * tensor.double()
            expected[name] = mean if tensor.is_floating_point() else tensor
    for name, tensor in average.module.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name].double(), rtol=1e-4, atol=1e-5)
    assert build_average(compose_config("train", []).tsm, tsm) is None


def test_the_average_is_what_is_validated_and_kept(cli, small, tmp_path):
    run = trained(cli, tmp_path / "average", *small, *STRONG)
    plain = trained(cli, tmp_path / "plain", *small, *STRONG, "tsm.ema=null")
    assert not all(torch.equal(value, weights(plain)[name]) for name, value in weights(run).items())
    assert not load_tsm(run / "tsm")[0].training
    assert cli("evaluate", f"run={run}", "split=val").code == 0
    scored = json.loads((run / "eval/val-tsm/metrics.json").read_text())
    for name in ("accuracy", "macro_f1", "log_likelihood"):
        assert summary(run)[f"val_{name}"] == pytest.approx(scored[name], abs=1e-5)


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("saves", [3, 5])
def test_a_killed_run_takes_up_average_and_mixtures(small, tmp_path, monkeypatch, saves):
    """Killed after any number of checkpoints, within an epoch or at its end, the run ends with the same bits."""

    def run_into(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
        config = compose_config("train", ["stage=tsm", *small, *STRONG, "launch.save_every=1", f"out={folder}"])
        run = RunFolder(folder / "run")
        found = train_tsm(config, run)
        log = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
        figures = {name: found[name] for name in found if name.startswith(("val", "best", "steps"))}
        return weights(run.path), {**figures, "losses": [row["loss"] for row in log if "loss" in row]}

    wanted = run_into(tmp_path / "whole")
    real, calls = Loop.save, []

    def save(loop: Loop) -> None:
        real(loop)
        calls.append(loop.step)
        if len(calls) == saves:
            raise Killed

    monkeypatch.setattr(Loop, "save", save)
    with pytest.raises(Killed):
        run_into(tmp_path / "killed")
    monkeypatch.undo()
    found = run_into(tmp_path / "killed")
    assert found[1] == wanted[1]
    assert all(torch.equal(value, wanted[0][name]) for name, value in found[0].items())


@pytest.mark.parametrize("cut", ["whole", "between weights and settings"])
def test_what_a_killed_epoch_kept_does_not_pass_for_the_best_one(small, tmp_path, cut):
    """Killed behind the TSM of epoch 2 and before its checkpoint; repeated elsewhere, that epoch may come out worse."""
    config = compose_config("train", ["stage=tsm", *small])
    task = build_task(config.data, config.seed, config.cache)
    tsm = build_tsm(config.tsm, len(task.labels))
    kept = BestTSM(tsm, task, tmp_path, 0)
    figures = kept.update(1)
    state = kept.state_dict()
    resumed = BestTSM(tsm, task, tmp_path, 0)
    resumed.load_state_dict(state)
    assert resumed.best == {"best_epoch": 1, **figures}

    with torch.no_grad():
        next(tsm.parameters()).add_(1)
    settings = (tmp_path / "tsm.json").read_bytes()
    save_tsm(tsm, tmp_path, tsm_meta(task))
    if cut != "whole":
        (tmp_path / "tsm.json").write_bytes(settings)
    resumed = BestTSM(tsm, task, tmp_path, 0)
    resumed.load_state_dict(state)
    assert resumed.best == {}
    figures = resumed.update(2)
    assert resumed.best == {"best_epoch": 2, **figures}
    assert weights_digest(load_tsm(tmp_path)[0]) == resumed.digest
