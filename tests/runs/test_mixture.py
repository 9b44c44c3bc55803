"""Several data sets as one run: a joint TSM, one VLM, and a row of figures a set; plugging in another TSM."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

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
def test_the_joint_tsm_knows_all_labels_and_is_scored_set_by_set(trained, cli):
    (run,) = trained.parent.glob("tsm-*")
    tsm, meta = load_tsm(run / "tsm")
    assert tsm.num_classes == 5
    assert [member["name"] for member in meta["members"]] == ["shapes", "bright"]
    ended = cli("evaluate", f"run={run}")
    assert ended.code == 0, ended
    assert {"shapes", "bright"} == json.loads((run / "eval/test-tsm/metrics.json").read_text())["sets"].keys()


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
def test_another_tsm_is_plugged_in_and_other_data_is_asked(pipeline, cli, shapes, tmp_path):
    overrides = [word for word in pipeline.overrides if not word.startswith("tsm.")]
    shifted = [*overrides, "data.train_fraction=0.5", "seed=3", f"out={tmp_path}"]
    assert cli("train", "stage=tsm", "tsm.optim.epochs=1", *shifted).code == 0
    (other,) = (tmp_path / "shapes").glob("tsm-*")
    run = pipeline.run("crt")
    ended = cli("evaluate", f"run={run}", f"tsm={other}", f"data={other}", "exemplar=on", "generate=false")
    assert ended.code == 0, ended
    (folder,) = (run / "eval").glob("test-on_data-*")
    assert other.name in folder.name
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["conditions"].keys() == {"label noise", "training fraction"}

    wide = [*shifted, "tsm.model_args.channels=[16, 32, 64, 80]"]
    assert cli("train", "stage=tsm", "tsm.optim.epochs=1", *wide).code == 0
    (wider,) = set((tmp_path / "shapes").glob("tsm-*")) - {other}
    cli("evaluate", f"run={run}", f"tsm={wider}", "exemplar=on").refuses(
        1, "takes features of 96 values, the TSM's have 80", "same backbone"
    )


@pytest.mark.slow
def test_data_with_other_labels_cannot_be_asked(trained, pipeline, cli):
    cli("evaluate", f"run={pipeline.run('vanilla')}", f"data={trained}").refuses(1, "its labels", "data.label_texts")


def test_two_sets_of_one_name_and_a_mixture_of_one_are_refused(cli, shapes, small):
    settings = [word for word in small if not word.startswith("data")]
    one = f"data.members={{a: {{source: image_folder, root: {shapes}}}}}"
    cli("train", "stage=tsm", "data=mixture", one, *settings).refuses(2, "at least two data sets")
    member = f"{{source: image_folder, root: {shapes}, name: same}}"
    two = f"data.members={{a: {member}, b: {member}}}"
    cli("train", "stage=tsm", "data=mixture", two, *settings).refuses(2, "two data sets are called 'same'")
    cli("train", "stage=tsm", "data=mixture", "data.members={a: {sourc: digits}}", *settings).refuses(2, "sourc")
