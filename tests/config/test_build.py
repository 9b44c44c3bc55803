"""Configuration becomes objects; every experiment builds with tiny stand-ins for its models and data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vitask.config.accelerator import build_accelerator
from vitask.config.build import (
    build_instructions,
    build_negatives,
    build_objective,
    build_optimizer,
    build_placement,
    build_scheduler,
    build_settings,
    build_task,
    build_tsm,
    build_vlm,
)
from vitask.config.compose import compose_config, groups
from vitask.errors import UsageError
from vitask.runs.identity import at_stage, term_weights
from vitask.tsm import build_transform
from vitask.vlm.adapt import trainable_groups

SETS = [name for name in groups()["experiment"] if name not in ("paper", "paper_all")]


def test_there_is_one_experiment_for_each_set_of_the_paper():
    from medmnist import INFO

    found = {compose_config("train", [f"experiment={name}"]).data.name for name in SETS}
    assert found == {name for name in INFO if "3d" not in name}
    assert len(SETS) == 12


@pytest.mark.parametrize("name", SETS)
def test_every_experiment_builds(name, tiny_parts, tmp_path):
    config = compose_config("train", [f"experiment={name}", *tiny_parts, f"cache={tmp_path}"])
    config = at_stage(config, "crt")
    task = build_task(config.data, config.seed, config.cache)
    assert task.name == config.data.name
    assert task.multi_label == (name == "paper_chest")
    (instruction,) = build_instructions(config.data, task)
    assert instruction.startswith(f"Analyze the given {task.modality} image. The possible diagnoses are:")
    assert all(label in instruction for label in task.labels)
    tsm = build_tsm(config.tsm, len(task.labels))
    transform = build_transform(tsm.data_config, config.tsm.augment, training=True)
    pixels = torch.stack([transform(task.splits["train"][row]["image"]) for row in range(2)])
    assert tsm(pixels).shape == (2, len(task.labels))
    placement = build_placement(config.exemplar, tsm.num_tokens(config.exemplar.features))
    vlm, prompter = build_vlm(config, tsm.feature_dim(config.exemplar.features), placement)
    assert set(trainable_groups(vlm)) == {"LoRA on the language model", "connector"}
    responses = [prompter.response(answer.text) for answer in task.answers]
    assert len(set(responses)) == len(task.answers)
    objective = build_objective(config.objective, term_weights(config), responses)
    assert objective.branches == ("vanilla", "exemplar", "negative")
    negatives = build_negatives(config.objective.crt, task, 0)
    answers = task.splits["train"]["answer"][:]
    drawn = negatives.draw(0, [0, 1], answers[:2], [0, 0])
    assert all(answers[row] != answers[other] for row, other in zip([0, 1], drawn, strict=True))
    assert len(build_optimizer(config.optim, vlm).param_groups) > 1
    assert build_settings(config, config.optim).batch_size == 128


@pytest.mark.slow
def test_an_experiment_of_the_paper_trains_from_end_to_end(tiny_parts, tmp_path, cli):
    small = ["tsm.optim.epochs=1", "vlm.dtype=float32", "launch.precision=no", "launch.workers=0", "launch.device=cpu"]
    folders = [f"out={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}"]
    ended = cli("train", "experiment=paper_chest", "stage=all", *tiny_parts, *small, *folders)
    assert ended.code == 0, ended
    stages = sorted(path.name.split("-")[0] for path in (tmp_path / "runs" / "chestmnist").iterdir())
    assert stages == ["crt", "ep", "tsm", "vanilla"]
    (run,) = (tmp_path / "runs" / "chestmnist").glob("crt-*")
    ended = cli("evaluate", f"run={run}", "device=cpu", "exemplar=on", "generate=false")
    assert ended.code == 0, ended
    assert "test, n = 28" in ended.out


def test_the_connector_has_its_own_rate_and_norms_have_no_decay():
    config = compose_config("train", ["optim.weight_decay=0.1"])
    module = torch.nn.ModuleDict({"lora": torch.nn.Linear(2, 2), "connector": torch.nn.Linear(2, 2)})
    found = {
        tuple(name for name, p in module.named_parameters() for q in group["params"] if p is q): (
            group["lr"],
            group["weight_decay"],
        )
        for group in build_optimizer(config.optim, module).param_groups
    }
    lr, own = config.optim.lr, config.optim.connector_lr
    assert found == {
        ("lora.weight",): (lr, 0.1),
        ("lora.bias",): (lr, 0.0),
        ("connector.weight",): (own, 0.1),
        ("connector.bias",): (own, 0.0),
    }


def test_a_parameter_can_have_a_rate_of_its_own():
    config = compose_config("train", ["optim.weight_decay=0.1"])
    module = torch.nn.ModuleDict({"lora": torch.nn.Linear(2, 2), "tower": torch.nn.Linear(2, 2)})
    groups = build_optimizer(config.optim, module, dict.fromkeys(module["tower"].parameters(), 0.5)).param_groups
    rates = {(id(p), group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    lora, tower = module["lora"], module["tower"]
    lr = config.optim.lr
    assert rates == {
        (id(lora.weight), lr, 0.1), (id(lora.bias), lr, 0.0), (id(tower.weight), 0.5, 0.1), (id(tower.bias), 0.5, 0.0),
    }  # fmt: skip


def test_without_a_rate_of_its_own_the_connector_takes_the_common_one():
    config = compose_config("train", ["optim.connector_lr=null"])
    module = torch.nn.ModuleDict({"connector": torch.nn.Linear(2, 2)})
    assert {group["lr"] for group in build_optimizer(config.optim, module).param_groups} == {config.optim.lr}


def test_the_cosine_schedule_warms_up_and_ends_at_zero():
    config = compose_config("train", ["optim.warmup=0.2", "optim.lr=1.0"])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_scheduler(config.optim)(optimizer, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("override", "text"),
    [("optim.name=adamm", "optim.name"), ("lora.targets=[nothing]", "lora.targets"), ("vlm.path=./absent", "vlm.path")],
)
def test_what_only_a_library_can_check_is_named_by_its_key(override, text):
    config = compose_config("train", [override])
    with pytest.raises(Exception, match=text) as caught:
        build_optimizer(config.optim, build_vlm(config, None, None)[0])
    assert caught.value.exit_code in (1, 2)


def test_an_objective_without_terms_is_a_wrong_request():
    config = compose_config("train", ["stage=vanilla", "objective.vanilla=0"])
    with pytest.raises(UsageError, match="objective: the objective has no term with a weight"):
        build_objective(config.objective, term_weights(config), [[1], [2]])


def test_a_precision_that_the_machine_lacks_is_a_wrong_request(tmp_path, monkeypatch):
    import accelerate

    def refuse(**_):
        raise ValueError("fp16 mixed precision requires a GPU")

    monkeypatch.setattr(accelerate, "Accelerator", refuse)
    config = compose_config("train", ["launch.precision=fp16"])
    with pytest.raises(UsageError, match=r"launch\.precision=fp16: fp16 mixed precision requires a GPU"):
        build_accelerator(config.launch, config.logger, tmp_path)


def test_several_ranks_without_a_gpu_are_told_to_use_the_cpu(tmp_path, monkeypatch):
    """Accelerate would else let each of them train alone, without a word."""
    import accelerate

    asked = []
    monkeypatch.setattr(accelerate, "Accelerator", lambda **options: asked.append(options["cpu"]))
    monkeypatch.setattr("vitask.training.ranks.whole", lambda accelerator: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = compose_config("train", ["launch.device=auto"])
    for ranks in ("1", "2"):
        monkeypatch.setenv("WORLD_SIZE", ranks)
        build_accelerator(config.launch, config.logger, tmp_path)
    assert asked == [False, True]


def test_the_modality_of_the_config_fills_the_instruction():
    config = compose_config("train", ["data.modality=squiggle", "data.instruction.complete=false"])
    task = build_task(config.data, 0, "unused")
    assert build_instructions(config.data, task) == ["Analyze the given squiggle image."]


def test_conditions_go_on_the_training_split_alone_and_follow_the_seed():
    data = compose_config("train", ["data.train_fraction=0.1", "data.label_noise=0.5"]).data
    clean = build_task(replace(data, label_noise=0.0), 0, "unused")
    noisy, same, other = (build_task(data, seed, "unused") for seed in (0, 0, 1))
    assert noisy.fingerprint == same.fingerprint != other.fingerprint
    assert noisy.splits["train"]["id"][:] == clean.splits["train"]["id"][:]
    assert noisy.splits["train"]["answer"][:] != clean.splits["train"]["answer"][:]
    assert noisy.splits["test"]["answer"][:] == clean.splits["test"]["answer"][:]
