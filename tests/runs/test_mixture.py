"""Several data sets as one run: a joint TSM, one VLM, and a row of figures a set; plugging in another TSM."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vitask.data import load_digits_task, mix
from vitask.errors import UsageError
from vitask.runs.evaluated_data import check_split
from vitask.tsm import load_tsm


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """A second data set: two classes of grey images, 12 by 12."""
    rng = np.random.default_rng(1)
    root = tmp_path_factory.mktemp("data") / "bright"
    for split, count in {"train": 6, "val": 3, "test": 3}.items():
        for name, level in {"dark": 40, "light": 200}.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(level - 40, level + 40, (12, 12)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def mixture(small, shapes, bright, tmp_path_factory):
    """The overrides of a run over both, and where it goes."""
    members = f"{{shapes: {{source: image_folder, root: {shapes}}}, bright: {{source: image_folder, root: {bright}}}}}"
    settings = [word for word in small if not word.startswith("data")]
    out = tmp_path_factory.mktemp("mixed")
    return ["data=mixture", f"data.members={members}", *settings, f"out={out}", "objective.csa=1"], out / "mixture"


@pytest.fixture(scope="module")
def trained(mixture, request):
    from ..conftest import call

    overrides, out = mixture
    ended = call(["train", "stage=crt", *overrides])
    assert ended.code == 0, ended
    (run,) = out.glob("crt-*")
    return run


@pytest.mark.slow
def test_a_mixture_runs_through_the_stages_and_has_a_row_a_set(trained, cli):
    ended = cli("evaluate", f"run={trained}", "generate=true")
    assert ended.code == 0, ended
    rows = {line.split("|")[1].strip(): line for line in ended.out.splitlines() if line.startswith("|")}
    assert {"shapes", "bright", "mean"} <= rows.keys()
    for mode in ("off", "on"):
        folder = trained / "eval" / f"test-{mode}"
        metrics = json.loads((folder / "metrics.json").read_text())
        sets = metrics["sets"]
        assert {name: each["samples"] for name, each in sets.items()} == {"shapes": 12, "bright": 6}
        assert metrics["accuracy"] == pytest.approx(np.mean([each["accuracy"] for each in sets.values()]))
        assert metrics["tsm"]["macro_f1"] == pytest.approx(np.mean([each["tsm"]["macro_f1"] for each in sets.values()]))
        header = (folder / "bright/predictions.csv").read_text().splitlines()[0]
        assert header.endswith("p(dark),p(light)")


@pytest.mark.slow
def test_images_are_ranked_and_contrasted_within_each_set(trained, cli):
    for options, name in ((["exemplar=off", "ranking=true"], "test-off"), (["contrast=1"], "test-off_contrast-1")):
        ended = cli("evaluate", f"run={trained}", "generate=false", *options)
        assert ended.code == 0, ended
        sets = json.loads((trained / "eval" / name / "metrics.json").read_text())["sets"]
        assert sets.keys() == {"shapes", "bright"}
    folder = trained / "eval/test-off"
    metrics, pairs = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "ranking"))
    parts = {name: json.loads((folder / name / "ranking.json").read_text()) for name in metrics["sets"]}
    assert {name: len(part["negative"]) for name, part in parts.items()} == {"shapes": 12, "bright": 6}
    for key in ("positive", "negative"):
        assert pairs[key] == parts["shapes"][key] + parts["bright"][key]
    gaps = [np.mean(part["positive"]) - np.mean(part["negative"]) for part in parts.values()]
    assert metrics["ranking"]["gap"] == pytest.approx(np.mean(gaps))


@pytest.mark.slow
def test_the_joint_tsm_knows_all_labels_and_is_scored_set_by_set(trained, cli):
    (run,) = trained.parent.glob("tsm-*")
    tsm, meta = load_tsm(run / "tsm")
    assert tsm.num_classes == 5
    assert [member["name"] for member in meta["members"]] == ["shapes", "bright"]
    ended = cli("evaluate", f"run={run}")
    assert ended.code == 0, ended
    assert {"shapes", "bright"} == json.loads((run / "eval/test-tsm/metrics.json").read_text())["sets"].keys()
    ended = cli("compare", run, trained)
    assert ended.code == 0, ended
    rows = [line.split("|")[1].strip() for line in ended.out.splitlines() if line.startswith("|")]
    assert rows[2:] == [f"{name} {figure}" for figure in ("accuracy", "macro-F1") for name in ("shapes", "bright")]


@pytest.mark.slow
def test_a_prediction_says_of_which_set_the_image_is(trained, cli, bright):
    image = bright / "test/light/0.png"
    cli("predict", f"run={trained}", str(image)).refuses(2, "several data sets", "set=shapes")
    cli("predict", f"run={trained}", "set=brigt", str(image)).refuses(2, "Did you mean 'bright'?")
    ended = cli("predict", f"run={trained}", "set=bright", str(image))
    assert ended.code == 0, ended
    assert "dark" in ended.out
    assert "bar" not in ended.out
    (run,) = trained.parent.glob("tsm-*")
    assert "light" in cli("predict", f"run={run}", "set=bright", str(image)).out


@pytest.mark.slow
def test_a_linear_head_has_the_labels_of_all_sets_and_answers_with_those_of_one(mixture, cli, bright):
    overrides, out = mixture
    assert cli("train", "stage=head", *overrides).code == 0
    (run,) = out.glob("head-*")
    assert cli("evaluate", f"run={run}").code == 0
    sets = json.loads((run / "eval/test-off/metrics.json").read_text())["sets"]
    assert {name: each["samples"] for name, each in sets.items()} == {"shapes": 12, "bright": 6}
    rows = (run / "eval/test-off/bright/predictions.csv").read_text().splitlines()
    assert rows[0].endswith("p(dark),p(light)")
    assert all(sum(map(float, row.split(",")[-2:])) == pytest.approx(1, abs=2e-6) for row in rows[1:])
    ended = cli("predict", f"run={run}", "set=bright", str(bright / "test/light/0.png"))
    assert ended.code == 0, ended
    assert "dark" in ended.out
    assert "bar" not in ended.out


@pytest.mark.slow
def test_another_tsm_is_plugged_in_and_other_data_is_asked(pipeline, cli, shapes, tmp_path):
    overrides = [word for word in pipeline.overrides if not word.startswith("tsm.")]
    shifted = [*overrides, "data.shift.noise=0.1", "data.shift.contrast=0.5", "seed=3", f"out={tmp_path}"]
    assert cli("train", "stage=tsm", "tsm.optim.epochs=1", *shifted).code == 0
    (other,) = (tmp_path / "shapes").glob("tsm-*")
    run = pipeline.run("crt")
    ended = cli("evaluate", f"run={run}", f"tsm={other}", f"data={other}", "exemplar=on", "generate=false")
    assert ended.code == 0, ended
    (folder,) = (run / "eval").glob("test-on_data-*")
    assert other.name in folder.name
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["conditions"].keys() == {"label noise", "image shift"}

    wide = [*shifted, "tsm.model_args.channels=[16, 32, 64, 80]"]
    assert cli("train", "stage=tsm", "tsm.optim.epochs=1", *wide).code == 0
    (wider,) = set((tmp_path / "shapes").glob("tsm-*")) - {other}
    cli("evaluate", f"run={run}", f"tsm={wider}", "exemplar=on").refuses(
        1, "takes features of 96 values, the TSM's have 80", "same backbone"
    )


@pytest.mark.slow
def test_data_with_other_labels_cannot_be_asked(trained, pipeline, cli):
    cli("evaluate", f"run={pipeline.run('vanilla')}", f"data={trained}").refuses(
        1, "the labels of this data", "data.label_texts"
    )


@pytest.mark.slow
def test_images_that_only_test_are_asked_by_their_own_configuration(pipeline, cli, shapes, tmp_path):
    """The same classes in a folder without splits, all of it to evaluate on."""
    flat = tmp_path / "flat"
    for image in sorted((shapes / "test").glob("*/[01].png")):
        (flat / image.parent.name).mkdir(parents=True, exist_ok=True)
        (flat / image.parent.name / image.name).write_bytes(image.read_bytes())
    run = pipeline.run("ep")
    other = ["data=image_folder", f"data.root={flat}", "data.fractions=[0,0,1]"]
    ended = cli("evaluate", f"run={run}", "generate=false", *other)
    assert ended.code == 0, ended
    folders = sorted((run / "eval").glob("test-*_data-image_folder-*"))
    assert [folder.name.split("_")[0] for folder in folders] == ["test-off", "test-on"]
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    assert metrics["samples"] == 6
    assert metrics["majority"]["accuracy"] == pytest.approx(1 / 3)
    cli("evaluate", f"run={run}", f"data.root={flat}").refuses(2, "say which data as well")
    cli("train", "stage=tsm", *other, f"cache={tmp_path}/cache").refuses(2, "no training images")


@pytest.mark.slow
def test_a_set_of_several_labels_may_come_first(medmnist_root, cli, small, tmp_path):
    """Figures that only one kind of set has are left out of the means over sets, in validation too."""
    settings = [word for word in small if not word.startswith("data")]
    members = "data.members={chestmnist: {source: medmnist}, breastmnist: {source: medmnist}}"
    data = ["data=mixture", members, f"data.root={medmnist_root}"]
    ended = cli("train", "stage=tsm", *data, *settings, f"out={tmp_path}")
    assert ended.code == 0, ended
    (run,) = tmp_path.glob("*/tsm-*")
    summary = json.loads((run / "summary.json").read_text())
    assert "val_macro_f1" in summary
    assert "val_label_accuracy" not in summary


def test_a_member_without_images_in_a_split_is_named():
    task = load_digits_task()
    bare = replace(task, name="bare", splits={**task.splits, "val": task.splits["val"].select([])})
    check_split(mix("both", [task, bare]), "test")
    with pytest.raises(UsageError, match="split=val: bare has no images there; it has some with split=train, split=te"):
        check_split(mix("both", [task, bare]), "val")


def test_members_that_are_no_data_sets_are_refused(cli, shapes, small):
    settings = [word for word in small if not word.startswith("data")]

    def refused(members: str, *texts: str):
        return cli("train", "stage=tsm", "data=mixture", f"data.members={members}", *settings).refuses(2, *texts)

    assert refused(f"{{a: {{source: image_folder, root: {shapes}}}}}", "at least two data sets")
    assert refused("{a: {sourc: digits}}", "sourc")
    assert refused("{a: digits, b: digits}", "data.members.a", "{source: digits}")
    assert refused("{a: {source: mixture}, b: {source: digits}}", "cannot be part of a mixture")


def test_another_tsm_needs_a_run_that_sees_one(pipeline, cli):
    tsm = pipeline.run("tsm")
    cli("evaluate", f"run={pipeline.run('vanilla')}", f"tsm={tsm}").refuses(2, "no TSM to replace")
    cli("evaluate", f"run={tsm}", f"tsm={tsm}").refuses(2, "no TSM to replace")
