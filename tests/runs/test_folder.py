"""What is in a run folder, and what happens when some of it is missing, damaged or changed."""

from __future__ import annotations

import csv
import json
import math
import shutil

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from vitask.config.build import build_task
from vitask.config.compose import compose_config
from vitask.errors import VitaskError
from vitask.runs.folder import PACKAGES, RunFolder, read_json, write_json, write_text

COMMON = {"config.yaml", "environment.json", "summary.json", "log.jsonl", "log.csv"}
ADAPTER = {"model/vitask.json", "model/adapter/adapter_config.json", "model/adapter/adapter_model.safetensors"}
FILES = {
    "tsm": COMMON | {"tsm/tsm.json", "tsm/tsm.safetensors"},
    "vanilla": COMMON | ADAPTER,
    "ep": COMMON | ADAPTER | {"model/connector.safetensors"},
    "crt": COMMON | ADAPTER | {"model/connector.safetensors"},
}


@pytest.mark.parametrize("stage", FILES)
def test_a_finished_run_holds_these_files_and_no_pickle(stage, pipeline):
    run = pipeline.run(stage)
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and "eval/" not in str(path)}
    assert found - {"model/adapter/README.md"} == FILES[stage]
    assert not list(pipeline.out.rglob("*.tmp")) + list(pipeline.out.rglob("*.pt"))


@pytest.mark.parametrize("stage", FILES)
def test_the_config_is_resolved_and_is_the_one_that_was_asked_for(stage, pipeline):
    run = pipeline.run(stage)
    text = (run / "config.yaml").read_text()
    assert "???" not in text
    assert "${" not in text
    config = RunFolder(run).config()
    assert config == compose_config("train", [f"stage={stage}", *pipeline.arguments])


@pytest.mark.parametrize("stage", FILES)
def test_the_environment_names_versions_data_and_conditions(stage, pipeline):
    environment = RunFolder(pipeline.run(stage)).environment()
    assert set(environment["versions"]) == set(PACKAGES)
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert all(environment["versions"].values())
    assert len(environment["data"]["fingerprint"]) == 64
    assert "25 % of training labels" in environment["data"]["notes"]["label noise"]
    assert environment["labels"] == ["bar", "dot", "row"]


@pytest.mark.parametrize(("stage", "steps"), [("tsm", 1), ("vanilla", 3), ("ep", 3), ("crt", 3)])
def test_the_summary_says_what_was_done(stage, steps, pipeline):
    summary = RunFolder(pipeline.run(stage)).summary()
    assert (summary["stage"], summary["seed"], summary["steps"]) == (stage, 0, steps)
    assert summary["seconds"] > 0
    trained = set(summary.get("trained", {}))
    assert ("connector" in trained) == (stage == "ep")


@pytest.mark.parametrize(
    ("stage", "parts"),
    [("vanilla", {"vanilla"}), ("ep", {"vanilla", "ep", "rda"}), ("crt", {"vanilla", "ep", "rda", "crt"})],
)
def test_the_log_has_every_term_of_the_stage_at_every_step(stage, parts, pipeline):
    run = pipeline.run(stage)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert set(line) & {"vanilla", "ep", "rda", "crt"} == parts
        weights = {"vanilla": 1, "ep": 1, "rda": 1, "crt": 0.1}
        assert line["loss"] == pytest.approx(sum(weights[part] * line[part] for part in parts), rel=1e-5)
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items()} for row in rows] == lines


def test_the_connector_learns_in_stage_one_and_stays_in_stage_two(pipeline):
    first, second = (load_file(pipeline.run(s) / "model/connector.safetensors") for s in ("ep", "crt"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first.keys() == second.keys() != set()


def test_the_adapter_goes_on_learning_in_stage_two(pipeline):
    first, second = (load_file(pipeline.run(s) / "model/adapter/adapter_model.safetensors") for s in ("ep", "crt"))
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_the_tsm_of_other_labels_is_refused(own_pipeline, cli):
    path = own_pipeline.run("tsm") / "tsm/tsm.json"
    path.write_text(path.read_text().replace('"bar"', '"line"'))
    arguments = [*own_pipeline.arguments, "stage=ep", "overwrite=true"]
    assert cli("train", *arguments).refuses(1, "labels ['line', 'dot', 'row'], this run needs ['bar', 'dot', 'row']")


@pytest.mark.parametrize(
    ("stage", "file", "text"),
    [
        ("ep", "config.yaml", "config.yaml: damaged, or written by another version"),
        ("ep", "environment.json", "environment.json: missing or damaged"),
        ("ep", "model/vitask.json", "vitask.json: missing or damaged"),
        ("ep", "model/adapter/adapter_model.safetensors", "adapter: damaged"),
        ("ep", "model/adapter/adapter_config.json", ""),
        ("ep", "model/connector.safetensors", "connector.safetensors: damaged"),
        ("tsm", "tsm/tsm.safetensors", "tsm.safetensors' is absent or damaged"),
        ("tsm", "tsm/tsm.json", "tsm.json' is damaged"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(stage, file, text, own_pipeline, cli):
    path = own_pipeline.run(stage) / file
    path.write_bytes(path.read_bytes()[:40])
    ended = cli("evaluate", f"run={own_pipeline.run(stage)}", "exemplar=both")
    if file.endswith("adapter_config.json"):  # the weights alone say what they are
        assert ended.code == 0 or ended.refuses(1)
    else:
        assert ended.refuses(1, text)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model/vitask.json", "vitask.json: missing or damaged"),
        ("model/adapter", "holds no tuned VLM"),
        ("model/connector.safetensors", "connector"),
        ("environment.json", "environment.json: missing or damaged"),
    ],
)
def test_a_missing_file_is_named_in_one_line(file, text, own_pipeline, cli):
    import shutil

    path = own_pipeline.run("ep") / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert cli("evaluate", f"run={own_pipeline.run('ep')}").refuses(1, text)


def test_a_config_of_another_version_is_named(own_pipeline, cli):
    path = own_pipeline.run("ep") / "config.yaml"
    values = yaml.safe_load(path.read_text())
    values["lora"]["sparsity"] = 3
    path.write_text(yaml.safe_dump(values))
    ended = cli("evaluate", f"run={own_pipeline.run('ep')}")
    assert ended.refuses(1, "config.yaml: damaged, or written by another version: lora.sparsity")


@pytest.fixture
def repaint(shapes):
    """Change one pixel of a training image, and put it back afterwards."""
    path = shapes / "train" / "bar" / "0.png"
    kept = path.read_bytes()
    with Image.open(path) as image:
        image.putpixel((0, 0), 255)
        image.save(path)
    yield
    path.write_bytes(kept)


@pytest.mark.usefixtures("repaint")
def test_data_that_changed_since_is_noticed(own_pipeline, cli):
    ended = cli("evaluate", f"run={own_pipeline.run('vanilla')}")
    assert ended.refuses(1, "the data has changed since this run began", "train again with overwrite=true")
    (own_pipeline.run("vanilla") / "summary.json").unlink()
    ended = cli("train", "stage=vanilla", *own_pipeline.arguments)
    assert ended.refuses(1, "the data has changed since this run began", "remove the folder to start over")


@pytest.mark.usefixtures("repaint")
def test_a_stage_does_not_build_on_runs_of_other_data(own_pipeline, cli):
    """Images that those were trained on may be test images now."""
    shutil.rmtree(own_pipeline.run("crt"))
    said = "the data has changed since this run began", "overwrite=true"
    ended = cli("train", "stage=crt", *own_pipeline.arguments)
    assert ended.refuses(1, str(own_pipeline.run("tsm")), *said)
    config = compose_config("train", own_pipeline.arguments)
    path = own_pipeline.run("tsm") / "environment.json"
    environment = read_json(path)
    environment["data"]["fingerprint"] = build_task(config.data, config.seed, config.cache).fingerprint
    write_json(path, environment)
    ended = cli("train", "stage=crt", *own_pipeline.arguments)
    assert ended.refuses(1, str(own_pipeline.run("ep")), *said)


def test_a_run_without_a_summary_is_not_finished(own_pipeline, cli):
    (own_pipeline.run("ep") / "summary.json").unlink()
    assert cli("evaluate", f"run={own_pipeline.run('ep')}").refuses(1, "not finished")
    assert cli("predict", f"run={own_pipeline.run('ep')}", __file__).refuses(1, "not finished")


@pytest.mark.parametrize("text", ["", "[1]", '{"a": ', "\x00"])
def test_a_file_that_is_no_json_table_is_named(text, tmp_path):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(VitaskError, match=r"summary\.json: missing or damaged"):
        RunFolder(tmp_path).summary()


def test_json_files_hold_json(tmp_path):
    """NaN is no JSON; other programs refuse the whole file."""
    write_json(tmp_path / "a.json", {"auc": math.nan, "rows": [{"x": (math.inf, 1.5)}], "text": "µ"})
    assert (tmp_path / "a.json").read_text().find("NaN") == -1
    assert read_json(tmp_path / "a.json") == {"auc": None, "rows": [{"x": [None, 1.5]}], "text": "µ"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "old"
