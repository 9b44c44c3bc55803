"""A run's folder follows from what its outcome depends on, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitask.config.compose import compose_config
from vitask.runs.identity import at_stage, identity, needs_exemplar, needs_tsm, run_folder, term_weights

STAGES = ("tsm", "vanilla", "ep", "crt")
CLOSED_SET_SETTINGS = ("limit=64", "limit=3", "temperature=2", "teacher_temperature=2", "teacher=out_of_fold")


def folder(stage: str, *overrides: str) -> Path:
    return run_folder(compose_config("train", [f"stage={stage}", *overrides]))


def code(stage: str, *overrides: str) -> str:
    return folder(stage, *overrides).name.rpartition("-")[2]


def codes(*overrides: str) -> dict[str, str]:
    """The codes of all stages, from one composition."""
    config = compose_config("train", list(overrides))
    return {stage: run_folder(at_stage(config, stage)).name.rpartition("-")[2] for stage in STAGES}


@pytest.fixture(scope="module")
def plain() -> dict[str, str]:
    return codes()


@pytest.mark.parametrize(
    "override",
    [
        "launch.workers=4",
        "launch.save_every=7",
        "launch.device=cpu",
        "logger=tensorboard",
        "logger.every=1",
        "logger.project=other",
        "out=elsewhere",
        "cache=elsewhere",
        "overwrite=true",
        "prerequisites=require",
        "tag=words",
        "data.download=true",
    ],
)
def test_what_does_not_change_the_outcome_does_not_change_the_run(override, plain):
    assert codes(override) == plain


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", "tsm vanilla ep crt"),
        ("launch.precision=bf16", "tsm vanilla ep crt"),
        ("data.label_noise=0.123", "tsm vanilla ep crt"),
        ("data.train_fraction=0.77", "tsm vanilla ep crt"),
        ("data.instruction.complete=false", "vanilla ep crt"),
        ("tsm.name=resnet34", "tsm ep crt"),
        ("tsm.optim.epochs=97", "tsm ep crt"),
        ("tsm.balanced=true", "tsm ep crt"),
        ("tsm.folds=3", "tsm ep crt"),
        ("vlm.train_projector=true", "vanilla ep crt"),
        ("vlm.dtype=bfloat16", "vanilla ep crt"),
        ("lora.rank=3", "vanilla ep crt"),
        ("lora=dora", "vanilla ep crt"),
        ("lora=rslora", "vanilla ep crt"),
        ("lora=qlora", "vanilla ep crt"),
        ("lora=full", "vanilla ep crt"),
        ("optim.lr=1.23e-4", "vanilla ep crt"),
        ("optim.batch_size=7", "vanilla ep crt"),
        ("exemplar=all", "ep crt"),
        ("exemplar.position=before_assistant", "ep crt"),
        ("connector=linear", "ep crt"),
        ("objective.vanilla=0.123", "vanilla ep crt"),
        ("objective.reduction=sequence", "vanilla ep crt"),
        ("objective.ep=0.123", "ep crt"),
        ("objective.alpha=0.123", "ep crt"),
        ("objective.rda.temperature=2", "ep crt"),
        ("objective.rda.detach_teacher=false", "ep crt"),
        ("objective.rda.mask=teacher_right", "ep crt"),
        ("objective.rda.teacher=labels", "ep crt"),
        ("objective.rda.smoothing=0.2", ""),
        ("objective.beta=0.123", "crt"),
        ("objective.beta=0", "crt"),
        ("objective.crt.tokens=branching", "crt"),
        ("objective.crt.negatives=dataset", "crt"),
        ("objective.crt.group=4", "crt"),
        ("objective.crt.ramp=0.5", "crt"),
        ("objective.csa=1", "ep crt"),
        ("objective.image_ranking=1", "ep crt"),
        ("objective.closed_set.limit=3", ""),
        ("vlm.feature_cache_gb=1", ""),
        ("step=plain", "vanilla ep crt"),
        ("optim.sampling.classes=0", "vanilla ep crt"),
    ],
)
def test_a_setting_changes_the_runs_that_depend_on_it_and_no_other(override, changed, plain):
    found = codes(override)
    assert [stage for stage in STAGES if found[stage] != plain[stage]] == changed.split()


def test_settings_of_the_closed_set_count_where_it_has_a_weight():
    for term in ("csa", "ranking", "image_ranking"):
        weight = f"objective.{term}=1"
        found = {code("ep", weight, f"objective.closed_set.{setting}") for setting in CLOSED_SET_SETTINGS}
        assert len(found) == len(CLOSED_SET_SETTINGS)


def test_settings_of_an_adapter_count_where_there_is_one():
    assert code("vanilla", "lora=full") == code("vanilla", "lora=full", "lora.rank=3", "lora.dropout=0.5")
    plain = identity(compose_config("train", ["stage=vanilla"]))["lora"]
    assert plain.keys() == {"rank", "alpha", "dropout", "targets"}, "runs of before keep their folders"


def test_settings_of_a_term_without_weight_do_not_count():
    assert code("ep", "objective.alpha=0", "objective.rda.temperature=2") == code("ep", "objective.alpha=0")
    assert code("crt", "objective.beta=0", "objective.crt.tokens=branching") == code("crt", "objective.beta=0")


def test_settings_of_a_teacher_count_for_that_teacher_alone():
    labels = "objective.rda.teacher=labels"
    assert code("ep", labels) != code("ep", labels, "objective.rda.smoothing=0.2")
    assert code("ep", labels) == code("ep", labels, "objective.rda.detach_teacher=false")


def test_smoothed_labels_need_neither_tsm_nor_connector():
    config = compose_config("train", ["stage=crt", "objective=smoothed"])
    assert not needs_tsm(config)
    assert {"tsm", "connector", "exemplar"}.isdisjoint(identity(config))
    assert code("crt", "objective=smoothed") == code("crt", "objective=smoothed", "connector=linear")
    assert needs_exemplar(compose_config("train", ["stage=ep", "objective.rda.teacher=labels"])), "for L_EP"


def test_the_rate_of_the_tower_counts_where_it_trains():
    assert code("ep", "vlm.tower_lr_ratio=0.5") == code("ep")
    assert code("ep", "vlm.train_tower=true", "vlm.tower_lr_ratio=0.5") != code("ep", "vlm.train_tower=true")


def test_objectives_that_differ_in_stage_two_alone_share_stage_one():
    assert folder("ep", "objective=crt") == folder("ep", "objective=joint")
    assert folder("crt", "objective=crt") != folder("crt", "objective=joint")
    assert folder("ep", "objective=paper") == folder("ep", "objective=rda") != folder("ep", "objective=crt")


def test_every_objective_of_the_demo_has_a_run_of_its_own():
    names = ("vanilla", "joint", "rda", "crt", "paper")
    assert len({folder("crt", f"objective={name}") for name in names}) == len(names)


def test_the_connector_of_an_objective_without_exemplar_does_not_count():
    assert code("crt", "objective=vanilla", "connector=linear") == code("crt", "objective=vanilla", "tsm.name=resnet34")


@pytest.mark.parametrize(
    "override",
    ["objective.alpha=0.123", "objective.reduction=sequence", "step=plain", "connector=linear", "tsm.name=resnet34"],
)
def test_a_linear_head_depends_on_no_objective_and_no_tsm(override):
    assert code("head", override) == code("head")
    assert not needs_exemplar(compose_config("train", ["stage=head"]))


@pytest.mark.parametrize(
    "override",
    [
        *("seed=1", "data.label_noise=0.123", "data.instruction.complete=false", "vlm.train_projector=true"),
        *("lora.rank=3", "optim.lr=1.23e-4", "optim.connector_lr=1.23e-4", "optim.sampling.classes=0"),
        *("stage.init_from=vanilla", "stage.init_from=head"),
    ],
)
def test_a_linear_head_depends_on_data_adapter_and_optimiser(override):
    assert code("head", override) != code("head")


def test_stages_find_each_other_from_any_stage():
    configs = {
        stage: compose_config("train", [f"stage={stage}", "seed=3", "lora.rank=4"]) for stage in (*STAGES, "all")
    }
    for stage in STAGES:
        assert {run_folder(at_stage(config, stage)) for config in configs.values()} == {run_folder(configs[stage])}


def test_an_override_of_a_stage_changes_the_run_of_that_stage():
    assert code("ep", "stage.train_connector=false") != code("ep")
    assert code("ep", "stage.terms=[ep]") != code("ep")
    assert code("ep", "stage.init_from=vanilla") != code("ep")


def test_an_earlier_stage_is_part_of_the_identity_of_a_later_one():
    config = compose_config("train", ["stage=crt"])
    assert identity(config)["init"] == identity(at_stage(config, "ep"))
    assert identity(config)["tsm"] == identity(at_stage(config, "tsm"))


def test_the_folder_is_named_after_data_stage_tag_and_seed():
    path = folder("ep", "seed=7", "tag=my words", "out=here")
    assert path.parent == Path("here/digits")
    assert path.name.startswith("ep-my words-seed7-")
    assert folder("ep").parent == Path("runs/digits")
    assert folder("ep", "data=image_folder", "data.root=some/leaves").parent == Path("runs/leaves")
    assert folder("ep", "out=~/here").is_absolute()


def test_the_run_follows_from_the_settings_wherever_the_command_is_given(tmp_path, monkeypatch):
    """So `evaluate` and `predict` find the TSM from any folder, on any machine."""
    here = folder("tsm", "data=image_folder", "data.root=leaves")
    monkeypatch.chdir(tmp_path)
    assert folder("tsm", "data=image_folder", "data.root=leaves") == here
    assert folder("tsm", "data=image_folder", "data.root=other/leaves") != here


def test_the_identity_of_plain_tuning_knows_no_exemplar():
    config = compose_config("train", ["stage=vanilla"])
    assert set(identity(config)) == {
        "seed",
        "precision",
        "data",
        "vlm",
        "lora",
        "optim",
        "weights",
        "reduction",
        "step",
    }


@pytest.mark.parametrize(
    ("stage", "objective", "weights", "exemplar"),
    [
        ("vanilla", "paper", (1, 0, 0, 0, 0, 0, 0), False),
        ("ep", "paper", (1, 1, 1, 0, 0, 0, 0), True),
        ("ep", "crt", (1, 1, 0, 0, 0, 0, 0), True),
        ("ep", "vanilla", (1, 0, 0, 0, 0, 0, 0), False),
        ("ep", "csa", (1, 0, 0, 0, 0, 3, 0), False),
        ("ep", "smoothed", (1, 0, 1, 0, 0, 0, 0), False),
        ("crt", "paper", (1, 1, 1, 0.1, 0, 0, 0), True),
        ("crt", "rda", (1, 1, 1, 0, 0, 0, 0), True),
        ("crt", "ranking", (1, 0, 0, 0, 3, 0, 0), False),
        ("crt", "image_ranking", (1, 0, 0, 0, 0, 0, 3), False),
        ("tsm", "paper", (0, 0, 0, 0, 0, 0, 0), False),
    ],
)
def test_a_stage_takes_the_terms_that_it_lists(stage, objective, weights, exemplar):
    config = compose_config("train", [f"stage={stage}", f"objective={objective}"])
    assert tuple(term_weights(config).values()) == weights
    assert needs_exemplar(config) == exemplar
