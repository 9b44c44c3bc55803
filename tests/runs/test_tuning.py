"""Runs with LoRA's relatives, in 4 bits, and without an adapter: trained, evaluated, exported on the command line."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vitask
from vitask.vlm.load import TINY_FOLDER

has_bitsandbytes = importlib.util.find_spec("bitsandbytes") is not None
without = pytest.mark.skipif(not has_bitsandbytes, reason="bitsandbytes is not installed (vitask[qlora])")
KINDS = ["dora", "rslora", pytest.param("qlora", marks=without), "full"]
pytestmark = pytest.mark.filterwarnings("ignore:.*4-bit.*:UserWarning")


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """Run folders by the way of tuning, each trained on first use."""
    from tests.conftest import call

    made: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in made:
            out = tmp_path_factory.mktemp(kind)
            lr = 1e-3 if kind == "full" else 4e-3
            ended = call(["train", *small, "stage=vanilla", f"lora={kind}", f"optim.lr={lr}", f"out={out}"])
            assert ended.code == 0, ended
            (made[kind],) = out.glob("shapes/vanilla-*")
        return made[kind]

    return run


def parts(run: Path) -> set[str]:
    return set(json.loads((run / "summary.json").read_text())["trained"])


def said(folder: Path, images: list[Path]) -> list[float]:
    found = vitask.Classifier.from_pretrained(folder, "cpu").predict(images, exemplar=False)
    return [each.probabilities[label] for each in found for label in ("bar", "dot", "row")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_what_it_should_and_holds_what_it_trained(kind, trained):
    run = trained(kind)
    assert parts(run) == {"language model" if kind == "full" else "LoRA on the language model"}
    files = {path.relative_to(run / "model").as_posix() for path in (run / "model").rglob("*") if path.is_file()}
    adapter = {f"adapter/{name}" for name in ("README.md", "adapter_config.json", "adapter_model.safetensors")}
    assert files == {"vitask.json", *({"weights.safetensors"} if kind == "full" else adapter)}
    if kind != "full":
        settings = json.loads((run / "model/adapter/adapter_config.json").read_text())
        assert (settings["use_dora"], settings["use_rslora"]) == (kind == "dora", kind == "rslora")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_checkpoint_says_what_the_run_says(kind, trained, shapes, tmp_path, cli):
    ended = cli("export", f"run={trained(kind)}", f"out={tmp_path / 'out'}", "samples=6")
    assert ended.code == 0, ended
    base, merged = load_file(TINY_FOLDER / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    assert base.keys() == merged.keys()
    assert {tensor.dtype for tensor in merged.values()} == {torch.float32}
    moved = {name for name in base if not torch.equal(base[name], merged[name])}
    linear = {name for name in base if "layers." in name and "proj.weight" in name}
    assert moved == ({name for name in base if "language_model" in name} if kind == "full" else linear)
    card = (tmp_path / "out/README.md").read_text()
    assert ("- lora\n" in card) == (kind != "full")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_adapter_says_without_vitask_what_the_run_says(kind, trained, tmp_path, cli):
    ended = cli("export", f"run={trained(kind)}", "to=adapter", f"out={tmp_path / 'out'}", "samples=6")
    assert ended.code == 0, ended
    assert ("BitsAndBytesConfig(" in (tmp_path / "out/README.md").read_text()) == (kind == "qlora")


def test_full_tuning_has_no_adapter_to_export(trained, tmp_path, cli):
    ended = cli("export", f"run={trained('full')}", "to=adapter", f"out={tmp_path / 'out'}")
    assert ended.refuses(2, "to=adapter: this run tuned the language model itself", "use to=merged or bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", pytest.param("qlora", marks=without)])
def test_a_bundle_answers_as_the_run_does(kind, trained, shapes, tmp_path, cli):
    run, images = trained(kind), sorted((shapes / "test").glob("*/*.png"))
    ended = cli("export", f"run={run}", "to=bundle", f"out={tmp_path / 'out'}", "samples=6")
    assert ended.code == 0, ended
    assert said(tmp_path / "out", images) == said(run, images)


def test_full_tuning_that_changed_nothing_is_not_exported(trained, tmp_path, cli):
    from safetensors.torch import save_file

    shutil.copytree(trained("full"), tmp_path / "run")
    path = tmp_path / "run/model/weights.safetensors"
    base, key = load_file(TINY_FOLDER / "model.safetensors"), "model.language_model.layers.1.mlp.up_proj.weight"
    save_file({**load_file(path), key: base["language_model.model.layers.1.mlp.up_proj.weight"]}, path)
    ended = cli("export", f"run={tmp_path / 'run'}", f"out={tmp_path / 'out'}", "samples=3")
    assert ended.refuses(1, "1 of 14 weights did not change by tuning", "layers.1.mlp.up_proj", "nothing was written")


@pytest.mark.slow
def test_before_tuning_a_fully_tuned_run_says_what_every_run_says(trained, cli):
    rows = []
    for run in (trained("full"), trained("dora")):
        for options in (["tuned=false"], ["exemplar=off"]):
            ended = cli("evaluate", f"run={run}", *options, "generate=false", "device=cpu")
            assert ended.code == 0, ended
        rows.append((run / "eval/test-untuned/predictions.csv").read_text())
        assert rows[-1] != (run / "eval/test-off/predictions.csv").read_text()
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_full_tuning_goes_through_all_stages_with_its_connector(small, tmp_path, cli):
    options = ["stage=crt", "lora=full", "optim.lr=1e-3", f"out={tmp_path}"]
    assert cli("train", *small, *options).code == 0
    (first,), (second,) = tmp_path.glob("shapes/ep-*"), tmp_path.glob("shapes/crt-*")
    assert (parts(first), parts(second)) == ({"language model", "connector"}, {"language model"})
    one, two = (load_file(run / "model/weights.safetensors") for run in (first, second))
    assert all(not torch.equal(one[name], two[name]) for name in one if "proj.weight" in name)
    files = [load_file(run / "model/connector.safetensors") for run in (first, second)]
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())
    ended = cli("evaluate", f"run={second}", "device=cpu", "generate=false")
    assert ended.code == 0, ended
    assert {path.name for path in (second / "eval").iterdir()} == {"test-off", "test-on"}


def test_a_contradiction_is_refused_before_anything_trains(small, tmp_path, cli, monkeypatch):
    from vitask.vlm import load

    options = [*small, "stage=ep", f"out={tmp_path / 'runs'}"]
    assert cli("train", *options, "lora=full", "lora.dora=true").refuses(2, "lora.tune=all", "leave lora.dora=true out")
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    assert cli("train", *options, "lora=qlora").refuses(2, "needs bitsandbytes", "pip install 'vitask[qlora]'")
    assert cli("train", *options, "lora.quantize=int3").refuses(2, "lora.quantize: 'int3' is not one of none, nf4")
    assert list(tmp_path.iterdir()) == []
