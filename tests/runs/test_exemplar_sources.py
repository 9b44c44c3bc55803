"""Exemplars from a table, of other images or the same for all; the TSM's prediction as text in the instruction."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

from vitask.config.build import build_placement, build_task, build_vlm
from vitask.config.compose import compose_config
from vitask.config.exemplars import build_exemplars, build_tsm_exemplars
from vitask.runs.exemplars import image_set
from vitask.runs.identity import at_stage
from vitask.tsm import load_tsm
from vitask.vlm.inputs import make_branch, stack_images

from .test_evaluate import metrics, predictions
from .test_predict import answers


def write(path, ids, values):
    parquet.write_table(pa.table({"id": list(ids), "vector": values.tolist()}), path)
    return path


def ids_of(shapes, *splits) -> list[str]:
    return sorted(path.relative_to(shapes).as_posix() for split in splits for path in (shapes / split).rglob("*.png"))


@pytest.fixture(scope="module")
def table(shapes, tmp_path_factory):
    """Two vectors of six values for every image."""
    ids = ids_of(shapes, "train", "val", "test")
    values = np.random.default_rng(5).standard_normal((len(ids), 2, 6))
    return write(tmp_path_factory.mktemp("vectors") / "own.parquet", ids, values)


@pytest.fixture(scope="module")
def from_table(small, table, tmp_path_factory):
    """The runs of `stage=all` with a table in the TSM's place: its folder and what was said."""
    from ..conftest import call

    out = tmp_path_factory.mktemp("table-runs")
    ended = call(["train", "stage=all", *small, f"exemplar.table={table}", f"out={out}"])
    assert ended.code == 0, ended
    return out / "shapes", ended.out


@pytest.fixture
def own_run(from_table, tmp_path):
    """A copy of the table's ep run."""
    (run,) = from_table[0].glob("ep-*")
    shutil.copytree(run, tmp_path / "shapes" / run.name)
    return tmp_path / "shapes" / run.name


@pytest.fixture(scope="module")
def features(pipeline):
    """What the pipeline's TSM says of the test split: a function that gives its ids and features."""
    config = at_stage(compose_config("train", list(pipeline.arguments)), "ep")
    task = build_task(config.data, config.seed, config.cache)
    tsm = load_tsm(pipeline.run("tsm") / "tsm")[0]
    shown = image_set(task, "test")
    return task.splits["test"]["id"], build_tsm_exemplars(config, tsm, "cpu")(shown).numpy()


@pytest.mark.slow
def test_with_a_table_no_tsm_is_trained(from_table):
    folder, said = from_table
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == ["crt", "ep", "vanilla"]
    assert said.count("tsm") == said.count("tsm: not trained, as exemplar.table stands in its place") == 1
    (run,) = folder.glob("ep-*")
    assert load_file(run / "model/connector.safetensors")["norm.weight"].shape == (6,)


@pytest.mark.slow
def test_a_run_of_a_table_is_evaluated_with_and_without_it(from_table, table, cli):
    (run,) = from_table[0].glob("crt-*")
    ended = cli("evaluate", f"run={run}", "generate=false")
    assert ended.code == 0, ended
    assert "exemplars: vectors of own.parquet" in ended.out
    assert metrics(run, "off")["tsm"] is None
    assert predictions(run, "off") != predictions(run, "on")


@pytest.mark.slow
def test_a_changed_or_absent_table_is_noticed(own_run, table, cli, tmp_path):
    config = own_run / "config.yaml"
    copy = tmp_path / "copy.parquet"
    shutil.copy(table, copy)
    config.write_text(config.read_text().replace(str(table), str(copy)))
    assert cli("evaluate", f"run={own_run}", "exemplar=on", "generate=false").code == 0
    ids = parquet.read_table(table).column("id").to_pylist()
    write(copy, ids, np.ones((len(ids), 2, 6)))
    ended = cli("evaluate", f"run={own_run}", "exemplar=on", "split=val", "generate=false")
    assert ended.refuses(1, "copy.parquet: the table has changed since", "exemplar_table=")
    copy.unlink()
    assert cli("evaluate", f"run={own_run}", "exemplar=on", "split=val").refuses(1, "copy.parquet: no such file")
    assert cli("evaluate", f"run={own_run}", "exemplar=off", "split=val", "generate=false").code == 0


@pytest.mark.slow
def test_other_vectors_are_plugged_in_by_name(own_run, pipeline, shapes, cli, tmp_path):
    ids = ids_of(shapes, "test")
    other = write(tmp_path / "other.parquet", ids, np.random.default_rng(1).standard_normal((len(ids), 2, 6)))
    arguments = ["evaluate", f"run={own_run}", "exemplar=on", "generate=false"]
    assert cli(*arguments, f"exemplar_table={other}").code == 0
    assert cli(*arguments).code == 0
    plugged, own = sorted((own_run / "eval").iterdir(), key=lambda path: -len(path.name))
    assert plugged.name.startswith("test-on_table-other-")
    assert (plugged / "predictions.csv").read_text() != (own / "predictions.csv").read_text()
    narrow = write(tmp_path / "narrow.parquet", ids, np.ones((len(ids), 4)))
    ended = cli(*arguments, f"exemplar_table={narrow}")
    assert ended.refuses(1, "takes features of 6 values", "narrow.parquet's have 4")
    ended = cli(*arguments, f"tsm={pipeline.run('tsm')}")
    assert ended.refuses(1, "takes features of 6 values", "the TSM's have 96")
    few = write(tmp_path / "few.parquet", ids[:9], np.ones((9, 6)))
    ended = cli(*arguments, f"exemplar_table={few}")
    assert ended.refuses(1, "few.parquet: has no vector of 3 of 12 images, the first is 'test/row/1.png'")


def test_a_table_without_a_training_image_is_refused(small, shapes, cli, tmp_path):
    ids = ids_of(shapes, "train")[1:]
    few = write(tmp_path / "few.parquet", ids, np.ones((len(ids), 6)))
    ended = cli("train", "stage=ep", *small, f"exemplar.table={few}", f"out={tmp_path}")
    assert ended.refuses(1, "has no vector of 1 of 24 images, the first is 'train/bar/0.png'")


@pytest.mark.parametrize("override", ["objective=csa", "objective.csa=1", "data.instruction.hint=true"])
@pytest.mark.parametrize("stage", ["all", "ep"])
def test_a_table_has_no_class_probabilities(override, stage, small, table, cli, tmp_path):
    ended = cli("train", f"stage={stage}", *small, f"exemplar.table={table}", override, f"out={tmp_path}/runs")
    assert ended.refuses(2, override.split("=")[0].replace("objective", "objective.csa")[:13], "exemplar.table")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_files_are_found_in_the_table_by_their_path(from_table, table, shapes, cli, tmp_path):
    (run,) = from_table[0].glob("ep-*")
    assert cli("evaluate", f"run={run}", "exemplar=on", "generate=false", "overwrite=true").code == 0
    expected = {row["id"]: row for row in predictions(run, "on")}
    ended = cli("predict", f"run={run}", shapes / "test/dot", shapes / "test/bar/2.png")
    assert ended.code == 0, ended
    for path, row in answers(ended.out).items():
        wanted = expected[path.removeprefix(f"{shapes}/")]
        assert row == pytest.approx({label: float(wanted[f"p({label})"]) for label in row}, abs=6e-4)
    new = tmp_path / "new.png"
    shutil.copy(shapes / "test/dot/0.png", new)
    ended = cli("predict", f"run={run}", new)
    assert ended.refuses(1, f"has no vector of 1 of 1 images, the first is '{new}'", "must hold every image")
    assert cli("predict", f"run={run}", "exemplar=off", new).code == 0
    one = write(tmp_path / "one.parquet", ["new"], np.ones((1, 6)))
    assert cli("predict", f"run={run}", f"exemplar_table={one}", new).code == 0


@pytest.mark.slow
def test_the_tsms_features_in_a_table_are_the_tsm(own_pipeline, features, cli, tmp_path):
    ids, values = features
    order = np.random.default_rng(0).permutation(len(ids))
    copied = write(tmp_path / "tsm.parquet", [ids[row] for row in order], values[order])
    run = own_pipeline.run("crt")
    arguments = ["evaluate", f"run={run}", "exemplar=on", "generate=false"]
    assert cli(*arguments).code == 0
    shutil.rmtree(own_pipeline.run("tsm"))
    assert cli(*arguments, f"exemplar_table={copied}").code == 0
    own, other = ((path / "predictions.csv").read_text() for path in sorted((run / "eval").iterdir()))
    assert own == other


@pytest.mark.slow
def test_shuffled_at_evaluation_is_the_exemplar_of_another_image(own_pipeline, features, cli, tmp_path):
    """As if a table held for each image what the order of the run's seed gives it."""
    ids, values = features
    run = own_pipeline.run("ep")
    ended = cli("evaluate", f"run={run}", "exemplar_content=shuffled", "generate=false")
    assert ended.code == 0, ended
    assert "exemplar content: each image with another image's exemplar" in ended.out
    assert sorted(path.name for path in (run / "eval").iterdir()) == ["test-off", "test-on_content-shuffled"]
    circle = np.random.default_rng([0, 0]).permutation(len(ids))
    following = dict(zip(circle, np.roll(circle, -1), strict=True))
    moved = write(tmp_path / "moved.parquet", ids, values[[following[row] for row in range(len(ids))]])
    assert cli("evaluate", f"run={run}", f"exemplar_table={moved}", "exemplar=on", "generate=false").code == 0
    (by_table,) = (run / "eval").glob("test-on_table-*")
    shuffled = (run / "eval/test-on_content-shuffled/predictions.csv").read_text()
    assert (by_table / "predictions.csv").read_text() == shuffled
    assert cli("evaluate", f"run={run}", "generate=false").code == 0
    assert (run / "eval/test-on/predictions.csv").read_text() != shuffled


@pytest.mark.slow
def test_the_constant_trains_and_answers_without_a_tsm(small, pipeline, shapes, cli, tmp_path):
    arguments = ["train", "stage=ep", *small, "exemplar.content=constant", f"out={tmp_path}"]
    ended = cli(*arguments)
    assert ended.code == 0, ended
    (run,) = (tmp_path / "shapes").iterdir()
    assert run.name.startswith("ep-")
    ended = cli("evaluate", f"run={run}", "generate=false")
    assert ended.code == 0, ended
    assert "exemplar content: the same exemplar for every image" in ended.out
    image = shapes / "test/dot/0.png"
    expected = {row["id"]: row for row in predictions(run, "on")}["test/dot/0.png"]
    (row,) = answers(cli("predict", f"run={run}", image).out).values()
    assert row == pytest.approx({label: float(expected[f"p({label})"]) for label in row}, abs=6e-4)
    ended = cli("evaluate", f"run={run}", "exemplar_content=image", "exemplar=on")
    assert ended.refuses(1, "there is no finished TSM")
    ended = cli("evaluate", f"run={run}", f"tsm={pipeline.run('tsm')}")
    assert ended.refuses(2, "sees no exemplar, so there is no TSM to replace")
    tsm = pipeline.run("tsm")
    assert (
        cli("evaluate", f"run={run}", f"tsm={tsm}", "exemplar_content=image", "exemplar=on", "generate=false").code == 0
    )


@pytest.mark.parametrize("features", ["cls", "patches"])
def test_constant_exemplars_reach_the_language_model_as_the_same_rows_for_all_images_and_learn(features, pipeline):
    config = compose_config(
        "train", [*pipeline.arguments, f"exemplar.features={features}", "exemplar.content=constant"]
    )
    config = at_stage(config, "ep")
    task = build_task(config.data, config.seed, config.cache)
    source = build_exemplars(config, None)
    trained = build_tsm_exemplars(config, load_tsm(pipeline.run("tsm") / "tsm")[0], "cpu")
    trained = type(trained)(trained.tsm, features, cache_dir=config.cache)
    assert (source.num_tokens, source.feature_dim) == (trained.num_tokens, trained.feature_dim)
    vlm, prompter = build_vlm(config, source.feature_dim, build_placement(config.exemplar, source.num_tokens))
    prompts = [prompter.prompt(task.splits["train"]["image"][row], "Which?") for row in (0, 9, 17)]
    exemplars = source(image_set(task, "train"))
    branch = make_branch(prompts, [prompter.response("dot")] * 3, vlm.placement, range(3), prompter)
    batch = {
        **stack_images(prompts, prompter),
        "exemplars": torch.stack([exemplars[row] for row in (0, 9, 17)]),
        "branches": {"exemplar": branch},
    }
    seen = []
    decode = vlm.decode
    vlm.decode = lambda inputs, mask: seen.append(inputs["inputs_embeds"]) or decode(inputs, mask)

    def rows() -> torch.Tensor:
        loss = -vlm(batch)["exemplar"].log_softmax(-1)[..., 3].mean()
        optimizer.zero_grad()
        loss.backward()
        return seen[-1][branch["exemplar_mask"]].view(3, source.num_tokens, -1)

    optimizer = torch.optim.SGD(vlm.connector.parameters(), lr=1.0)
    before = rows()
    assert torch.equal(before[0], before[1])
    assert torch.equal(before[0], before[2])
    assert not torch.equal(seen[-1][0], seen[-1][1]), "the images themselves differ"
    optimizer.step()
    after = rows()
    assert torch.equal(after[0], after[2])
    assert (after[0] - before[0]).abs().max(-1).values.min() > 0, "every row moved"
    if source.num_tokens > 1:
        assert len(after[0].unique(dim=0)) == source.num_tokens


@pytest.mark.slow
def test_shuffled_exemplars_are_trained_with_too_and_cannot_be_predicted_with(small, pipeline, shapes, cli, tmp_path):
    shutil.copytree(pipeline.run("tsm"), tmp_path / "shapes" / pipeline.run("tsm").name)
    arguments = [*pipeline.overrides, "exemplar.content=shuffled", "prerequisites=require", f"out={tmp_path}"]
    ended = cli("train", "stage=ep", *arguments)
    assert ended.code == 0, ended
    (run,) = (tmp_path / "shapes").glob("ep-*")
    ours, theirs = (load_file(path / "model/connector.safetensors") for path in (run, pipeline.run("ep")))
    assert not torch.equal(ours["norm.weight"], theirs["norm.weight"]), "nothing else differs between the two"
    assert cli("evaluate", f"run={run}", "exemplar=on", "generate=false").code == 0
    assert "exemplar content" in metrics(run, "on")["conditions"]
    image = shapes / "test/dot/0.png"
    assert cli("predict", f"run={run}", image).refuses(2, "takes the exemplars of other images", "exemplar=off")
    assert cli("predict", f"run={run}", "exemplar=off", image).code == 0


@pytest.mark.parametrize("option", ["exemplar_content=shuffled", "exemplar_table=x.csv"])
@pytest.mark.parametrize("stage", ["vanilla", "tsm"])
def test_what_sees_no_exemplar_has_none_to_replace(option, stage, pipeline, cli):
    ended = cli("evaluate", f"run={pipeline.run(stage)}", option)
    assert ended.refuses(2, option, "sees no exemplar, so there is none to replace")
    if "table" in option:
        ended = cli("predict", f"run={pipeline.run(stage)}", option, "image.png")
        assert ended.refuses(2, option, "sees no exemplar, so there is none to replace")


def test_two_sources_at_once_are_refused(pipeline, table, cli):
    options = [f"tsm={pipeline.run('tsm')}", f"exemplar_table={table}"]
    assert cli("evaluate", f"run={pipeline.run('ep')}", *options).refuses(2, "give one of them")
