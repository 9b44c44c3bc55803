"""The worked examples of CONTRIBUTING.md do what they say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from vitask.config.compose import compose_config, groups, load_stage
from vitask.losses import vanilla_loss
from vitask.tsm.kinds import KINDS, patch_features

from .commands import ROOT, blocks, spans

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = {
    block.splitlines()[0].removeprefix("# "): block for name in ("python", "yaml") for block in blocks(PAGE, name)
}


def defined(path: str, **names) -> dict:
    """What the example of a file defines."""
    names["__package__"] = path.rpartition("/")[0].replace("/", ".")
    exec(compile(EXAMPLES[path], path, "exec"), names)
    return names


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder of own groups with every YAML of the page."""
    for path, text in EXAMPLES.items():
        if path.startswith("configs/"):
            file = tmp_path / "mine" / path.removeprefix("configs/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    monkeypatch.setenv("VITASK_CONFIG_DIR", str(tmp_path / "mine"))
    return tmp_path


def test_there_is_an_example_of_each():
    rooms = {path.rpartition("/")[0] for path in EXAMPLES}
    code, yaml = {"vitask/losses", "vitask/tsm", "vitask/data/sources"}, {"configs/tsm", "configs/exemplar"}
    assert rooms == code | yaml | {"configs/stage"}


def test_the_loss_is_the_plain_one_at_gamma_0_and_counts_what_is_sure_less():
    focal = defined("vitask/losses/focal.py")["focal_loss"]
    logits = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, -100], [4, -100, -100]])
    assert torch.allclose(focal(logits, labels, gamma=0.0), vanilla_loss(logits, labels))
    terms = [logits[place].log_softmax(-1)[labels[place]].item() for place in ((0, 0), (0, 1), (1, 0))]
    by_hand = sum(-((1 - torch.tensor(term).exp().item()) ** 2) * term for term in terms) / 3
    assert focal(logits, labels).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_tsm_composes_and_timm_has_it(own):
    tsm = compose_config("train", ["tsm=convnext_pico"]).tsm
    assert timm.is_model(tsm.name)
    assert tsm.optim.epochs == 10


def test_the_data_set_loads_and_keeps_trees_together(tmp_path):
    rows = [(f"{tree}-{leaf}.png", ("healthy", "rust")[tree % 2], tree) for tree in range(20) for leaf in range(2)]
    for name, _, tree in rows:
        Image.new("RGB", (8, 8), (12 * tree, int(name[-5]) * 90, 0)).save(tmp_path / name)
    with (tmp_path / "leaves.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "disease", "tree"), *rows])
    load = defined("vitask/data/sources/leaves.py")["load_leaves_task"]
    task = load(tmp_path, cache_dir=tmp_path / "cache")
    assert task.labels == ("healthy", "rust")
    trees = [{sample.split("-")[0] for sample in split["id"]} for split in task.splits.values()]
    assert sum(map(len, trees)) == len(set.union(*trees)) == 20


def test_the_exemplar_kind_gives_one_token(own, monkeypatch):
    kind = defined("vitask/tsm/kinds.py", nn=nn, Tensor=torch.Tensor, patch_features=patch_features)["mean_patch"]
    hidden = torch.randn(2, 4, 3, 3)
    found = kind(nn.Identity(), hidden)
    assert found.shape == (2, 1, 4)
    assert torch.allclose(found[1, 0], hidden[1].mean((1, 2)), atol=1e-6)
    assert "mean" in groups()["exemplar"]
    assert "mean" not in KINDS, "then the page needs another example"


def test_the_stage_composes(own):
    stage = compose_config("train", ["stage=polish"]).stage
    assert stage == load_stage("polish")
    assert (stage.init_from, stage.terms, stage.pipeline) == ("ep", ["vanilla", "csa"], ["tsm", "ep", "polish"])


def test_files_that_are_named_exist():
    named = [span for span in spans(PAGE) if span.startswith(("vitask/", "tests/", "scripts/")) and "x.py" not in span]
    missing = [span for span in named if span.endswith(".py") and not (ROOT / span).is_file()]
    assert missing == []
