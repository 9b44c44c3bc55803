"""`vitask config`: what is composed, and where each value comes from."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from typing import Any

import pytest
import yaml

from vitask.config.compose import compose_config
from vitask.config.grid import compose_grid
from vitask.config.origins import DEFAULT, OVERRIDE, Origins, trace, trace_grid

CONFIGS = files("vitask.configs")
EVALUATION = ("data=aptos2019", "data.root=here", "data.fractions=[0,0,1]")


def leaves(values: dict[str, Any], key: tuple[str, ...] = ()):
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*key, name))
        else:
            yield (*key, name), value


def held_by(origin: str, key: tuple[str, ...]) -> Any:
    """What a shipped file says of a key, read by plain YAML."""
    text = (CONFIGS / origin.removeprefix("configs/")).read_text()
    found = yaml.safe_load(text)
    group = origin.split("/")[1] if origin.count("/") == 2 and "_global_" not in text else None
    for name in key if group is None else key[key.index(group) + 1 :] if group in key else key:
        found = found[name]
    return found


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["objective=rda", "objective.alpha=2", "stage=ep", "tsm.augment=null", "tsm.model_args={layers: [2]}"],
            {
                ("seed",): "configs/train.yaml",
                ("objective", "alpha"): OVERRIDE,
                ("objective", "beta"): "configs/objective/rda.yaml",
                ("objective", "crt", "ramp"): "configs/objective/paper.yaml",
                ("stage", "terms"): "configs/stage/ep.yaml",
                ("tsm", "augment"): OVERRIDE,
                ("tsm", "model_args", "layers"): OVERRIDE,
                ("tsm", "model_args", "channels"): "configs/tsm/resnet_tiny.yaml",
            },
        ),
        (
            ["experiment=paper_derma", "vlm=tiny", "seed=3"],
            {
                ("seed",): OVERRIDE,
                ("data", "name"): "configs/experiment/paper_derma.yaml",
                ("data", "download"): "configs/data/base.yaml",
                ("lora", "rank"): "configs/experiment/paper.yaml",
                ("lora", "dropout"): "configs/lora/default.yaml",
                ("tsm", "name"): "configs/tsm/vit_base.yaml",
                ("vlm", "path"): "configs/vlm/tiny.yaml",
            },
        ),
        (["data=mixture", "data.members={a: {source: digits}}"], {("data", "members", "a", "source"): OVERRIDE}),
        (["data=mixture", "data.members={}"], {("data", "members"): OVERRIDE}),
    ],
)
def test_a_value_is_of_the_file_that_sets_it_last_or_of_an_override(overrides, expected):
    _, origins = trace("train", overrides)
    assert {key: origins[key] for key in expected} == expected


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["objective=csa", "lora=dora", "stage=head"],
        ["objective=smoothed", "experiment=paper_all", "launch=fsdp"],
        ["experiment=paper_derma", "tsm=resnet_tiny", "optim.epochs=2", "data.size=28", "exemplar=all"],
    ],
    ids=" ".join,
)
def test_every_value_stands_in_the_file_that_is_named(overrides):
    values, origins = trace("train", overrides)
    assert values == asdict(compose_config("train", overrides))
    for key, value in leaves(values):
        if (origin := origins[key]) != OVERRIDE:
            assert held_by(origin, key) == value, (key, origin)


def test_own_groups_are_named_by_their_path(tmp_path, monkeypatch):
    (tmp_path / "objective").mkdir()
    (tmp_path / "objective/mine.yaml").write_text("defaults: [paper]\nalpha: 0.25\n")
    monkeypatch.setenv("VITASK_CONFIG_DIR", str(tmp_path))
    _, origins = trace("train", ["objective=mine"])
    assert origins["objective", "alpha"] == str(tmp_path / "objective/mine.yaml")
    assert origins["objective", "beta"] == "configs/objective/paper.yaml"


def test_a_value_that_no_file_sets_is_the_schema_s():
    origins = Origins()
    origins.set(("a",), {"b": 1, "c": {}}, "x")
    assert (origins["a", "b"], origins["a", "c"], origins["a", "c", "d"], origins["a", "e"]) == ("x", "x", "x", DEFAULT)
    origins.set(("a",), None, "y")
    origins.set(("a",), {"b": 2}, "z")
    assert origins.of == {("a", "b"): "z"}


def test_an_evaluation_shows_the_other_data_and_its_origins():
    values, origins = trace("evaluate", ["run=r", *EVALUATION, "exemplar=off"])
    assert (values["data"]["fractions"], values["data"]["source"], values["exemplar"]) == (
        [0, 0, 1],
        "aptos2019",
        "off",
    )
    assert origins["data", "fractions"] == origins["exemplar"] == origins["run"] == OVERRIDE
    assert origins["data", "size"] == "configs/data/aptos2019.yaml"
    assert origins["split"] == "configs/evaluate.yaml"


def test_a_grid_shows_what_it_takes_from_other_grids():
    values, origins = trace_grid("demo", ["seeds=[3]"])
    assert values == asdict(compose_grid("demo", ["seeds=[3]"])[0])
    assert origins["seeds"] == OVERRIDE
    assert origins["rows", "CSA"] == "configs/ablation/demo.yaml"
    assert origins["rows", "vanilla"] == "configs/ablation/table2.yaml"
    assert origins["workers"] == "configs/ablation/base.yaml"


@pytest.mark.parametrize(
    ("arguments", "root", "overrides"),
    [
        ((), "train", ()),
        (("stage=ep", "data.label_texts={a b: 'c, d', e: 'x # y'}"), "train", None),
        (("doctor", "seed=1"), "train", ("seed=1",)),
        (("predict", "run=r"), "predict", ("run=r",)),
        (("demo-ui", "run=r"), "demo_ui", ("run=r",)),
        (("bench",), "bench", ()),
    ],
)
def test_what_is_printed_is_yaml_of_the_composed_values(arguments, root, overrides, cli):
    ended = cli("config", *arguments)
    assert (ended.code, ended.err) == (0, "")
    expected = asdict(compose_config(root, arguments if overrides is None else overrides))
    assert yaml.safe_load(ended.out) == expected
    lines = [line for line in ended.out.splitlines() if not line.endswith(":")]
    assert all("  # configs/" in line or line.endswith("  # override") for line in lines)
    assert len(lines) == len(list(leaves(expected)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trian",), "config: no verb 'trian'. Did you mean 'train'?"),
        (("train", "sed=1"), "unknown config key 'sed'. Did you mean 'seed'?"),
        (("evaluate",), "run has no value; give run=..."),
        (("objective=rad",), "objective=rad: no such option. Did you mean 'rda'?"),
        (("ablate",), "give the name of a grid first"),
        (("ablate", "dmeo"), "no grid named 'dmeo'. Did you mean 'demo'?"),
        (("ablate", "demo", "optim.lr=1"), "optim.lr=1 is of the grid's runs, not of the grid"),
    ],
)
def test_a_wrong_request_ends_in_one_line(arguments, said, cli):
    assert cli("config", *arguments).refuses(2, said)
