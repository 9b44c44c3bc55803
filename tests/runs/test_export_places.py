"""An export says nothing of the machine that it was made on, and finds a base model that is told where it is."""

from __future__ import annotations

import json
import re
import shutil
from ast import literal_eval
from pathlib import Path

import pytest

import vitask
from tests.conftest import Pipeline, call
from vitask.config.compose import compose_config
from vitask.export.facts import _base_notes, _code
from vitask.export.portable import local_base, portable
from vitask.runs.folder import RunFolder
from vitask.vlm.load import TINY_FOLDER

from .test_export import FORMS, card, said_by_the_card

NAME, CONVERTED = "plain-hf", "InternVL2-2B-hf"


def with_base(pipeline: Pipeline, out: Path, base: Path) -> Pipeline:
    """A copy of a pipeline that says that its VLM was tuned from a folder."""
    made = Pipeline(out, pipeline.overrides)
    shutil.copytree(pipeline.out, made.out, ignore=shutil.ignore_patterns("eval"))
    config, *described = (
        made.run("crt") / name for name in ("config.yaml", "model/vitask.json", "model/adapter/adapter_config.json")
    )
    config.write_text(config.read_text().replace("path: tiny", f"path: {base}"))
    for path in described:
        path.write_text(re.sub(r'"(base|base_model_name_or_path)": "[^"]*"', rf'"\1": "{base}"', path.read_text()))
    return made


@pytest.mark.parametrize("text", ["What is \U0001f600?", 'Say "a\\b".', "two\nlines", "Größe\u2028?"])
def test_a_text_in_the_code_of_a_card_is_itself(text):
    """JSON writes some characters as Python does not read them."""
    assert literal_eval(_code(text)) == text


@pytest.fixture(scope="module")
def local(pipeline, tmp_path_factory) -> Pipeline:
    """The pipeline over a base model in a folder of this machine."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(TINY_FOLDER, folder / "models" / NAME)
    made = with_base(pipeline, folder / "runs", folder / "models" / NAME)
    assert call(["evaluate", f"run={made.run('crt')}", "generate=false"]).code == 0
    return made


@pytest.fixture(scope="module")
def exported(local, tmp_path_factory) -> dict[str, Path]:
    """The last stage in every form."""
    folder = tmp_path_factory.mktemp("exported")
    for form in FORMS:
        ended = call(["export", f"run={local.run('crt')}", f"to={form}", f"out={folder / form}"])
        assert ended.code == 0, ended
        assert "images of the test split of shapes" in ended.out
    return {form: folder / form for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_no_file_holds_a_path_of_this_machine(form, exported, tmp_path_factory):
    places = (tmp_path_factory.getbasetemp(), Path.home(), TINY_FOLDER)
    files = [path for path in exported[form].rglob("*") if path.is_file()]
    told = {str(path.relative_to(exported[form])): path.read_bytes() for path in files}
    assert [name for name, text in told.items() if any(str(place).encode() in text for place in places)] == []


def test_the_base_model_is_named_and_the_card_says_that_it_has_to_be_given(exported):
    for path in ("adapter/adapter_config.json", "bundle/model/adapter/adapter_config.json"):
        settings = json.loads((exported["adapter"].parent / path).read_text())
        assert settings["base_model_name_or_path"] == NAME
    assert json.loads((exported["bundle"] / "model/vitask.json").read_text())["base"] == NAME
    for form in ("adapter", "bundle"):
        assert f'base = "{NAME}"  # the folder of the base model\n' in card(exported[form])
        assert f"The base model, {NAME}, is no part of it: `base` says where its folder is." in card(exported[form])
    assert "load_adapter(folder, base, dtype=" in card(exported["adapter"])
    assert "vitask.Classifier.from_pretrained(folder, base=base)" in card(exported["bundle"])
    assert "base =" not in card(exported["merged"])


@pytest.mark.slow
def test_the_code_of_an_adapters_card_runs_beside_the_base_model(local, exported, shapes, tmp_path):
    shutil.copytree(TINY_FOLDER, tmp_path / NAME)
    image = shapes / "test/bar/1.png"
    labels, found = literal_eval(said_by_the_card(exported["adapter"], "adapter", image, tmp_path))
    (wanted,) = vitask.Classifier.from_pretrained(local.run("crt"), "cpu").predict(image, exemplar=False)
    assert (labels, found) == (list(wanted.labels), pytest.approx(wanted.probabilities, abs=1e-5))


def test_a_bundle_loads_where_the_base_model_is_elsewhere(local, exported, shapes, tmp_path, cli):
    base, images = shutil.copytree(TINY_FOLDER, tmp_path / "other-name"), sorted((shapes / "test").glob("*/*.png"))
    wanted = vitask.Classifier.from_pretrained(local.run("crt"), "cpu").predict(images)
    assert vitask.Classifier.from_pretrained(exported["bundle"], "cpu", base=base).predict(images) == wanted
    run = f"run={exported['bundle']}"
    assert cli("predict", run, f"base={base}", *images).out == cli("predict", f"run={local.run('crt')}", *images).out
    data = [word for word in local.overrides if word.startswith("data") and "noise" not in word]
    bundle = shutil.copytree(exported["bundle"], tmp_path / "bundle")
    assert cli("evaluate", f"run={bundle}", f"base={base}", *data, "generate=false").code == 0
    assert cli("export", f"run={bundle}", f"base={base}", "to=bundle", f"out={tmp_path / 'again'}").code == 0
    assert RunFolder(tmp_path / "again").config().vlm.path == "./other-name"


def test_a_base_model_that_is_not_there_is_asked_for(exported, shapes, tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    said = (f"there is no folder {NAME}", "base=<folder>")
    assert cli("predict", f"run={exported['bundle']}", shapes / "test/bar/0.png").refuses(2, *said)
    with pytest.raises(vitask.UsageError, match="base=<folder>"):
        vitask.Classifier.from_pretrained(exported["bundle"])
    with pytest.raises(vitask.UsageError, match="there is no folder lost"):
        vitask.Classifier.from_pretrained(exported["bundle"], base="./lost")


def test_the_run_of_a_tsm_has_no_base_model(pipeline, shapes, cli):
    ended = cli("predict", f"run={pipeline.run('tsm')}", "base=x", shapes / "test/bar/0.png")
    assert ended.refuses(2, "base=x", "which has no base model")


def test_settings_keep_names_and_lose_places(tmp_path):
    (tmp_path / "hub").mkdir()
    options = ["data=table", f"data.path={tmp_path}/my (eyes).csv", f"data.root={tmp_path}", "tsm.pretrained=false"]
    options += [f"data.label_file={tmp_path}/words.yaml", f"tsm.checkpoint={tmp_path}/vit.safetensors"]
    options += [f"exemplar.table={tmp_path}/dino.parquet", f"vlm.path={tmp_path}/x-hf", f"out={tmp_path}"]
    options += [f"cache={tmp_path}", "launch.address=gpu17", f"launch.slurm=['chdir={tmp_path}']"]
    told = portable(compose_config("train", options))
    assert str(tmp_path) not in str(told)
    assert (told.data.name, told.data.path, told.data.root) == ("my -eyes-", None, None)
    assert (told.data.label_file, told.tsm.checkpoint, told.exemplar.table) == (
        *("words.yaml", "vit.safetensors", "dino.parquet"),
    )
    assert (told.vlm.path, told.launch.address, told.launch.slurm) == ("./x-hf", None, None)
    for path, kept in (("me/eyes", "me/eyes"), (str(tmp_path / "hub"), None)):
        assert portable(compose_config("train", ["data=hub", f"data.path={path}"])).data.path == kept
    named = compose_config("train", ["vlm.path=OpenGVLab/InternVL3-1B-hf"])
    assert (local_base(named), portable(named).vlm) == (None, named.vlm)


def test_members_of_a_mixture_lose_their_places(tmp_path):
    member = f"{{source: image_folder, root: {tmp_path}, label_file: {tmp_path}/a.yaml}}"
    config = compose_config("train", ["data=mixture", f"data.members={{one: {member}, two: {{source: digits}}}}"])
    assert portable(config).data.members == {
        "one": {"source": "image_folder", "root": None, "label_file": "a.yaml"},
        "two": {"source": "digits"},
    }


def test_the_card_says_how_a_converted_base_model_is_made():
    (named,), (other, made) = (
        _base_notes(compose_config("train", [f"vlm.path=./{name}"])) for name in (NAME, CONVERTED)
    )
    assert (NAME in named, CONVERTED in other) == (True, True)
    assert f"python -m vitask.vlm.convert_internvl2 InternVL2-2B {CONVERTED}" in made
