"""`vitask evaluate`: what it writes and prints, and that batching, repeating and asking in parts change nothing."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch
from sklearn.metrics import f1_score

LABELS = ["bar", "dot", "row"]
MODES = {"tsm": ["tsm"], "vanilla": ["off"], "ep": ["off", "on"], "crt": ["off", "on"]}


def predictions(run, mode: str, split: str = "test") -> list[dict[str, str]]:
    with (run / "eval" / f"{split}-{mode}" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(run, mode: str, split: str = "test") -> dict:
    return json.loads((run / "eval" / f"{split}-{mode}" / "metrics.json").read_text())


def flat(figures, name: str = "") -> dict[str, float]:
    """Every number of nested figures by its dotted name."""
    if not isinstance(figures, dict | list):
        return {name: figures}
    items = figures.items() if isinstance(figures, dict) else enumerate(figures)
    return {inner: value for key, item in items for inner, value in flat(item, f"{name}.{key}").items()}


@pytest.fixture(scope="module")
def evaluated(pipeline):
    """Every run of the pipeline, evaluated once; the output by stage."""
    from tests.conftest import call

    return {stage: call(["evaluate", f"run={pipeline.run(stage)}"]) for stage in MODES}


@pytest.mark.parametrize("stage", MODES)
def test_every_mode_that_the_run_can_do_is_evaluated(stage, evaluated, pipeline):
    assert evaluated[stage].code == 0, evaluated[stage]
    on_other_data_too = sorted(path.name for path in (pipeline.run(stage) / "eval").glob("test-*"))
    folders = [name for name in on_other_data_too if "_" not in name]
    assert folders == [f"test-{mode}" for mode in MODES[stage]]


@pytest.mark.parametrize(("stage", "mode"), [(stage, mode) for stage, modes in MODES.items() for mode in modes])
def test_predictions_name_every_image_once_with_probabilities_that_sum_to_one(stage, mode, evaluated, pipeline):
    rows = predictions(pipeline.run(stage), mode)
    generated = [] if mode == "tsm" else ["text", "parsed"]
    assert list(rows[0]) == ["id", "truth", "prediction", *generated, *(f"p({label})" for label in LABELS)]
    assert [row["id"] for row in rows] == [f"test/{label}/{n}.png" for label in LABELS for n in range(4)]
    assert [row["truth"] for row in rows] == [row["id"].split("/")[1] for row in rows]
    for row in rows:
        figures = {label: float(row[f"p({label})"]) for label in LABELS}
        assert sum(figures.values()) == pytest.approx(1, abs=2e-6)
        assert figures[row["prediction"]] == max(figures.values())


@pytest.mark.parametrize(("stage", "mode"), [(stage, mode) for stage, modes in MODES.items() for mode in modes])
def test_the_figures_are_those_of_the_predictions(stage, mode, evaluated, pipeline):
    found, rows = metrics(pipeline.run(stage), mode), predictions(pipeline.run(stage), mode)
    truth, chosen = [row["truth"] for row in rows], [row["prediction"] for row in rows]
    assert (found["run"], found["split"], found["mode"]) == (pipeline.run(stage).name, "test", mode)
    assert (found["samples"], found["labels"]) == (12, LABELS)
    assert found["accuracy"] == pytest.approx(sum(a == b for a, b in zip(truth, chosen, strict=True)) / 12)
    assert found["macro_f1"] == pytest.approx(f1_score(truth, chosen, average="macro", labels=LABELS, zero_division=0))
    majority = {"accuracy": 1 / 3, "balanced_accuracy": 1 / 3, "macro_f1": 1 / 6, "weighted_f1": 1 / 6}
    assert {name: found["majority"][name] for name in majority} == pytest.approx(majority)
    assert found["tsm"]["accuracy"] == metrics(pipeline.run("tsm"), "tsm")["accuracy"]
    if mode != "tsm":
        parsed = [row["parsed"] for row in rows]
        assert found["generated"]["invalid_rate"] == pytest.approx(parsed.count("") / 12)
        right = sum(a == b for a, b in zip(truth, parsed, strict=True)) / 12
        assert found["generated"]["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("stage", MODES)
def test_the_table_shows_tsm_majority_and_conditions_beside_the_run(stage, evaluated, pipeline):
    lines = evaluated[stage].out.splitlines()
    first = ["TSM"] if stage == "tsm" else [f"VLM with{'' if m == 'on' else 'out'} exemplar" for m in MODES[stage]]
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    controls = ["TSM", *(f"averaged, with{'' if m == 'on' else 'out'} exemplar" for m in MODES[stage])]
    assert rows == ["test, n = 12", *first, *([] if stage == "tsm" else controls), "majority class"]
    assert max(map(len, lines)) <= 120
    assert lines[-1] == "label noise: 25 % of training labels replaced by another label, seed 0 (6 of 24)"


def test_what_is_there_is_read_and_not_computed_again(evaluated, pipeline, cli, monkeypatch):
    import vitask.runs.evaluate as module

    monkeypatch.setattr(module, "Evaluation", None)
    again = cli("evaluate", f"run={pipeline.run('crt')}")
    table = [line for line in evaluated["crt"].out.splitlines() if "━" not in line]
    assert again.out.splitlines() == table
    assert cli("evaluate", f"run={pipeline.run('crt')}", "exemplar=on").code == 0


def test_the_batch_size_changes_no_result(evaluated, own_pipeline, cli):
    run = own_pipeline.run("crt")
    found = []
    for size in (1, 5, 64):
        assert cli("evaluate", f"run={run}", f"batch_size={size}", "overwrite=true").code == 0
        found.append({mode: (metrics(run, mode), predictions(run, mode)) for mode in ("off", "on")})
    for mode in ("off", "on"):
        for figures, rows in (other[mode] for other in found[1:]):
            first_figures, first_rows = found[0][mode]
            for key in ("accuracy", "macro_f1", "intervals", "generated", "tsm", "averaged", "majority"):
                assert flat(figures[key]) == pytest.approx(flat(first_figures[key]), abs=1e-6), key
            for row, first in zip(rows, first_rows, strict=True):
                for key in row:
                    same = float(row[key]) == pytest.approx(float(first[key]), abs=2e-5) if key[:2] == "p(" else False
                    assert same or row[key] == first[key], key


def test_overwriting_computes_again(evaluated, own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    assert cli("evaluate", f"run={run}").code == 0
    path = run / "eval/test-off/metrics.json"
    path.write_text(path.read_text().replace('"samples": 12', '"samples": 99'))
    assert "n = 99" in cli("evaluate", f"run={run}").out
    assert "n = 12" in cli("evaluate", f"run={run}", "overwrite=true").out


def test_generated_answers_that_are_asked_for_later_are_added(own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    shutil.rmtree(run / "eval", ignore_errors=True)
    assert cli("evaluate", f"run={run}", "generate=false").code == 0
    assert "generated" not in metrics(run, "off")
    assert "text" not in predictions(run, "off")[0]
    assert cli("evaluate", f"run={run}").code == 0
    assert "generated" in metrics(run, "off")


def test_splits_and_modes_are_kept_apart(own_pipeline, cli):
    run = own_pipeline.run("ep")
    shutil.rmtree(run / "eval", ignore_errors=True)
    assert cli("evaluate", f"run={run}", "split=val", "exemplar=on", "generate=false").code == 0
    assert [path.name for path in (run / "eval").iterdir()] == ["val-on"]
    assert len(predictions(run, "on", "val")) == 9
    ended = cli("evaluate", f"run={run}", "split=train", "exemplar=off", "generate=false")
    assert "train, n = 24" in ended.out


def test_without_the_exemplar_neither_tsm_nor_connector_is_needed(own_pipeline, cli):
    """Paper, section 3: at inference without EP the TSM is not needed."""
    run = own_pipeline.run("crt")
    shutil.rmtree(run / "eval", ignore_errors=True)
    assert cli("evaluate", f"run={run}", "generate=false").code == 0
    whole = predictions(run, "off")
    shutil.rmtree(own_pipeline.run("tsm"))
    (run / "model/connector.safetensors").unlink()
    shutil.rmtree(run / "eval")
    ended = cli("evaluate", f"run={run}", "exemplar=off", "generate=false")
    assert ended.code == 0, ended
    assert "its figures are left out" in ended.out
    assert predictions(run, "off") == whole
    assert cli("evaluate", f"run={run}", "exemplar=on").refuses(1, "there is no finished TSM")


def test_runs_that_were_moved_together_still_find_each_other(own_pipeline, cli, tmp_path):
    (own_pipeline.out / "shapes").rename(tmp_path / "elsewhere")
    (run,) = (tmp_path / "elsewhere").glob("ep-*")
    shutil.rmtree(run / "eval", ignore_errors=True)
    assert cli("evaluate", f"run={run}", "generate=false", "exemplar=on").code == 0


def test_the_exemplar_matters_to_the_run_that_was_given_one(evaluated, pipeline):
    off, on = ([float(r["p(dot)"]) for r in predictions(pipeline.run("ep"), mode)] for mode in ("off", "on"))
    assert not torch.allclose(torch.tensor(off), torch.tensor(on), atol=1e-4)


@pytest.mark.parametrize(
    ("stage", "options", "text"),
    [
        ("vanilla", ["exemplar=on"], "was trained without exemplar, so it has no connector"),
        (None, [], "no run there (config.yaml is missing)"),
    ],
)
def test_what_a_run_cannot_do_is_a_wrong_request(stage, options, text, pipeline, cli):
    run = pipeline.run(stage) if stage else pipeline.out / "absent"
    assert cli("evaluate", f"run={run}", *options).refuses(2, text)


@pytest.fixture
def undivided(shapes, tmp_path):
    """The test images in a folder without splits, and the words that evaluate all of them."""
    for image in (shapes / "test").glob("*/*.png"):
        (tmp_path / "flat" / image.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "flat" / image.parent.name)
    return tmp_path / "flat", ["data=image_folder", f"data.root={tmp_path / 'flat'}", "data.fractions=[0,0,1]"]


def test_other_data_that_changed_is_evaluated_again(own_pipeline, undivided, cli, monkeypatch):
    import vitask.runs.evaluate as module

    folder, words = undivided
    run = own_pipeline.run("tsm")
    first = cli("evaluate", f"run={run}", *words)
    assert "n = 12" in first.out
    with monkeypatch.context() as patch:
        patch.setattr(module, "Evaluation", None)
        assert cli("evaluate", f"run={run}", *words).out == first.out
    (folder / "bar/0.png").unlink()
    assert "n = 11" in cli("evaluate", f"run={run}", *words).out

    (path,) = (run / "eval").glob("*/metrics.json")
    known = json.loads(path.read_text())
    assert len(known.pop("fingerprint")) == 64
    path.write_text(json.dumps({**known, "samples": 99}))
    assert "n = 11" in cli("evaluate", f"run={run}", *words).out, "one that does not say which files it saw"


def test_the_run_s_own_data_needs_no_fingerprint_in_an_earlier_evaluation(own_pipeline, cli):
    run = own_pipeline.run("tsm")
    assert cli("evaluate", f"run={run}").code == 0
    known = metrics(run, "tsm")
    del known["fingerprint"]
    (run / "eval/test-tsm/metrics.json").write_text(json.dumps({**known, "samples": 99}))
    assert "n = 99" in cli("evaluate", f"run={run}").out


@pytest.mark.parametrize("stage", ["tsm", "vanilla"])
def test_a_split_without_images_is_named_and_nothing_is_written(stage, own_pipeline, undivided, cli):
    run = own_pipeline.run(stage)
    ended = cli("evaluate", f"run={run}", *undivided[1], "split=val")
    assert ended.refuses(2, "split=val: flat has no images there", "split=test", "data.fractions")
    assert not (run / "eval").exists()


def test_damaged_figures_are_named(own_pipeline, cli):
    path = own_pipeline.run("vanilla") / "eval/test-off"
    path.mkdir(parents=True, exist_ok=True)
    (path / "metrics.json").write_text("{")
    ended = cli("evaluate", f"run={own_pipeline.run('vanilla')}")
    assert ended.refuses(1, "metrics.json: missing or damaged")
