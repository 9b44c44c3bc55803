"""Every file of configs/ composes; overrides do what they say."""

from __future__ import annotations

from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vitask.config import schema
from vitask.config.compose import ROOTS, checked, compose_config, groups, load_stage
from vitask.config.keys import LAUNCHER

CONFIGS = Path(str(files("vitask.configs")))
GROUPS = {name: options for name, options in groups().items() if name != "ablation"}
OPTIONS = [(group, option) for group, options in GROUPS.items() for option in options]
REQUIRED = ["data.name=dermamnist", "data.root=nowhere"]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes(group, option):
    config = compose_config("train", [f"{group}={option}", *REQUIRED])
    assert isinstance(config, schema.Config)


def test_no_file_is_left_out():
    """What the tests above compose, two bases, and the roots of verbs without groups and of train are all there is."""
    assert [path.parent.name for path in sorted(CONFIGS.glob("*/base.yaml"))] == ["ablation", "data"]
    assert (len(GROUPS), len(OPTIONS) >= 46) == (12, True)
    composed = [path for path in CONFIGS.rglob("*.yaml") if path.parent.name != LAUNCHER]
    assert len(composed) == len(OPTIONS) + len(groups()["ablation"]) + 2 + len(ROOTS)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_file_begins_by_saying_what_it_is(path):
    lines = path.read_text().splitlines()
    assert any(line.startswith("# ") and line.endswith(".") for line in lines[:2])


def test_the_groups_of_the_schema_are_the_folders():
    nested = {entry.name for entry in fields(schema.Config) if "Config" in str(entry.type)}
    assert nested | {"experiment"} == set(GROUPS)


def test_the_defaults_are_those_of_the_paper():
    config = compose_config("train", [])
    weights = config.objective
    assert config.data.instruction.complete
    assert (weights.rda.direction, weights.rda.temperature, weights.rda.detach_teacher) == ("student_first", 1, True)
    assert (weights.crt.tokens, weights.crt.negatives) == ("all", "batch")
    assert (config.exemplar.features, config.vlm.train_tower, config.vlm.train_projector) == ("cls", False, False)
    stages = {name: load_stage(name) for name in ("vanilla", "ep", "crt")}
    assert (weights.rda.teacher, weights.rda.mask, weights.rda.ramp, weights.crt.ramp) == ("exemplar", "none", 0, 0)
    assert (weights.closed_set.teacher, config.tsm.folds) == ("in_sample", None)
    ours = ("ranking", "csa", "image_ranking")
    assert [getattr(weights, term) for term in ours] == [0, 0, 0]
    assert [[term for term in stages[name].terms if term not in ours] for name in stages] == [
        ["vanilla"],
        ["vanilla", "ep", "rda"],
        ["vanilla", "ep", "rda", "crt"],
    ]
    assert (stages["ep"].train_connector, stages["crt"].train_connector) == (True, False)
    assert (stages["ep"].init_from, stages["crt"].init_from) == (None, "ep")


def test_the_instruction_of_medical_sets_is_the_paper_s_word_for_word():
    config = compose_config("train", ["data=medmnist", *REQUIRED])
    text = "Analyze the given {modality} image. The possible diagnoses are:{labels}."
    assert config.data.instruction.template == text
    assert config.data.instruction.incomplete_template == "Analyze the given {modality} image."


def test_the_scale_of_the_paper():
    config = compose_config("train", ["experiment=paper_derma"])
    assert (config.optim.epochs, config.tsm.optim.epochs) == (1, 30)
    assert config.tsm.name == "vit_base_patch16_224.augreg_in21k"
    assert config.tsm.pretrained


def test_an_experiment_wins_over_defaults_and_the_command_line_over_an_experiment():
    config = compose_config("train", ["experiment=paper_derma", "lora.rank=4", "optim=tiny", "data.root=x"])
    assert (config.data.name, config.lora.alpha, config.launch.precision) == ("dermamnist", 32, "bf16")
    assert (config.lora.rank, config.optim.micro_batch_size, config.data.root) == (4, None, "x")


def test_a_stage_takes_an_override():
    assert compose_config("train", ["stage=ep", "stage.train_connector=false"]).stage.train_connector is False


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("tsm.model_args.drop_rate=0.1", lambda config: config.tsm.model_args["drop_rate"] == 0.1),
        ("+tsm.model_args.drop_rate=0.1", lambda config: config.tsm.model_args["drop_rate"] == 0.1),
        ("tsm.model_args={drop_rate: 0.1}", lambda config: config.tsm.model_args["drop_rate"] == 0.1),
        ("tsm.augment.hflip=0.5", lambda config: config.tsm.augment["hflip"] == 0.5),
        ("vlm.image_options.crop_to_patches=true", lambda config: config.vlm.image_options["crop_to_patches"] is True),
        ("data.label_texts={a_b: c}", lambda config: config.data.label_texts == {"a_b": "c"}),
        ("data.label_texts=[a, b]", lambda config: config.data.label_texts == ["a", "b"]),
    ],
)
def test_free_dictionaries_take_new_keys(override, found):
    assert found(compose_config("train", [override]))


@pytest.mark.parametrize("mode", ["on", "off", "both"])
def test_on_and_off_stay_words(mode):
    assert compose_config("evaluate", ["run=x", f"exemplar={mode}"]).exemplar == mode


@pytest.mark.parametrize("path", ["a=b", "a,b", "a b", "[a]", "~/x", "1e5", "007", "a'b", "null"])
def test_the_path_of_a_run_may_hold_any_character(path):
    assert compose_config("evaluate", [f"run={path}"]).run == path


@pytest.mark.parametrize("path", ["a=b", "a,b", "a b", "[a]", "~/x", "1e5", "007", "a'b", "(a)", "a:b", "true", ""])
def test_so_may_any_text_of_a_training_run(path):
    config = compose_config("train", ["data=image_folder", f"data.root={path}", f"out={path}"])
    assert (config.data.root, config.out) == (path, path)


@pytest.mark.parametrize(("value", "found"), [("null", None), ("'a b'", "a b"), ('"a"', "a"), ("${out}", "runs")])
def test_a_text_may_be_nothing_quoted_or_a_reference(value, found):
    assert compose_config("train", [f"tag={value}"]).tag == found


@pytest.mark.parametrize(
    ("root", "keys"),
    [
        ("export", ["out", "push"]),
        ("evaluate", ["data", "tsm", "exemplar_table", "exemplar_content", "probe"]),
        ("predict", ["set", "instruction", "exemplar_table"]),
        ("demo_ui", ["port"]),
    ],
)
def test_null_is_nothing_for_the_verbs_without_groups_too(root, keys):
    request = compose_config(root, ["run=null", *(f"{key}=null" for key in keys)])
    assert [getattr(request, key) for key in keys] == [None] * len(keys)
    assert request.run == "null", "a run must be named, and this may be its name"


def test_values_of_evaluate_get_their_types():
    request = compose_config("evaluate", ["run=x", "generate=false", "batch_size=3", "overwrite=True"])
    assert (request.generate, request.batch_size, request.overwrite) == (False, 3, True)


def test_a_composed_config_survives_yaml():
    config = compose_config("train", ["experiment=paper_chest", "tag=a b", "launch.precision=no"])
    text = OmegaConf.to_yaml(OmegaConf.structured(config))
    assert asdict(checked(schema.Config, OmegaConf.create(text))) == asdict(config)


def test_composing_twice_gives_the_same():
    assert compose_config("train", ["stage=ep"]) == compose_config("train", ["stage=ep"])
