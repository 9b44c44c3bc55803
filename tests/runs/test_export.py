"""`vitask export`: an adapter, a merged checkpoint and a bundle say what the run says, or nothing is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import vitask
from tests.conftest import Pipeline, call
from vitask.export import check, run, write
from vitask.vlm.load import TINY_FOLDER

FORMS = ("adapter", "merged", "bundle")
ISOLATED = "import sys; sys.modules['vitask'] = None; exec(compile(open('card.py').read(), 'card.py', 'exec'))"


@pytest.fixture(scope="module")
def evaluated(pipeline, tmp_path_factory) -> Pipeline:
    """A copy of the pipeline whose last stage was evaluated; tests leave it as it is."""
    made = Pipeline(tmp_path_factory.mktemp("evaluated") / "runs", pipeline.overrides)
    shutil.copytree(pipeline.out, made.out, ignore=shutil.ignore_patterns("eval"))
    assert call(["evaluate", f"run={made.run('crt')}", "generate=false"]).code == 0
    return made


@pytest.fixture(scope="module")
def exported(evaluated, tmp_path_factory) -> dict[str, Path]:
    """The last stage in every form."""
    folder = tmp_path_factory.mktemp("exported")
    for form in FORMS:
        ended = call(["export", f"run={evaluated.run('crt')}", f"to={form}", f"out={folder / form}"])
        assert (ended.code, ended.out.splitlines()[-1]) == (0, str(folder / form)), ended
        assert "12 images of the test split of shapes" in ended.out
    return {form: folder / form for form in FORMS}


@pytest.mark.parametrize("form", FORMS[:2])
def test_an_export_for_others_is_no_run_and_its_card_is_named(form, exported, shapes, cli):
    said = ("an export for plain transformers and peft", "README.md", "vitask export to=bundle")
    assert cli("predict", f"run={exported[form]}", shapes / "test/bar/0.png").refuses(2, str(exported[form]), *said)
    with pytest.raises(vitask.UsageError, match="export for plain transformers"):
        vitask.Classifier.from_pretrained(exported[form])


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def front_matter(folder: Path) -> dict:
    return yaml.safe_load(card(folder).split("---\n")[1])


def program(folder: Path) -> str:
    """The code of a card."""
    return re.search(r"```python\n(.*?)\n```", card(folder), re.DOTALL)[1]


def said_by_the_card(folder: Path, form: str, image: Path, scratch: Path) -> str:
    """The last line that the code of a card prints about an image, without vitask and in another place."""
    shutil.copytree(folder, scratch / form)
    shutil.copy(image, scratch / "image.png")
    (scratch / "card.py").write_text(program(folder))
    ended = subprocess.run(
        [sys.executable, "-I", "-c", ISOLATED],
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_the_code_of_the_card_says_without_vitask_what_the_run_says(form, evaluated, exported, shapes, tmp_path):
    image = shapes / "test/bar/1.png"
    labels, found = literal_eval(said_by_the_card(exported[form], form, image, tmp_path))
    (wanted,) = vitask.Classifier.from_pretrained(evaluated.run("crt"), "cpu").predict(image, exemplar=False)
    assert (labels, found) == (list(wanted.labels), pytest.approx(wanted.probabilities, abs=1e-5))
    assert len({round(p, 3) for p in found.values()}) == 3


def test_a_merged_weight_is_the_base_weight_and_the_product(evaluated, exported):
    base, merged = load_file(TINY_FOLDER / "model.safetensors"), load_file(exported["merged"] / "model.safetensors")
    adapter = load_file(evaluated.run("crt") / "model/adapter/adapter_model.safetensors")
    assert base.keys() == merged.keys()
    targets = {name.removesuffix(".lora_A.weight") for name in adapter if name.endswith(".lora_A.weight")}
    assert len(targets) == 14
    for name in targets:
        wide = {part: adapter[f"{name}.lora_{part}.weight"].double() for part in "AB"}
        key = name.replace("base_model.model.model.language_model.", "language_model.model.") + ".weight"
        expected = base.pop(key).double() + 2.0 * wide["B"] @ wide["A"]
        assert torch.allclose(merged.pop(key).double(), expected, atol=1e-6)
    assert all(torch.equal(merged[key], base[key]) for key in base), "what LoRA does not touch is as it was"


def test_each_form_holds_what_its_reader_needs(exported):
    shared = {"README.md", "labels.json"}
    processor = {"chat_template.jinja", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    plain = shared | processor | {"generation_config.json"}
    merged, adapter, bundle = (files(exported[form]) for form in ("merged", "adapter", "bundle"))
    assert merged == plain | {"config.json", "model.safetensors"}
    own = {name for name in adapter if not name.startswith("base/")}
    assert own == plain | {"adapter_config.json", "adapter_model.safetensors"}
    assert {"base/config.json", "base/model.safetensors"} <= adapter - own, "the embedded VLM has no name on a hub"
    assert bundle == shared | {
        *("config.yaml", "environment.json", "summary.json", "tsm/tsm.json", "tsm/tsm.safetensors"),
        *("model/vitask.json", "model/connector.safetensors"),
        *("model/adapter/adapter_config.json", "model/adapter/adapter_model.safetensors"),
    }
    settings = json.loads((exported["adapter"] / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "base"


def test_the_labels_file_holds_instruction_answers_and_their_tokens(evaluated, exported):
    from transformers import AutoTokenizer

    known = json.loads((evaluated.run("crt") / "model/vitask.json").read_text())["members"][0]
    (found,) = json.loads((exported["merged"] / "labels.json").read_text())["sets"]
    assert (found["instruction"], found["labels"], found["multi_label"]) == (
        *(known["instruction"], ["bar", "dot", "row"]),
        False,
    )
    tokenizer = AutoTokenizer.from_pretrained(exported["merged"])
    for answer in found["answers"]:
        assert tokenizer.decode(answer["tokens"], skip_special_tokens=True) == answer["text"]
        assert answer["tokens"][-1] == tokenizer.eos_token_id
        assert answer["labels"] == [answer["text"]]


def test_a_bundle_answers_alone_with_and_without_exemplar(evaluated, exported, shapes, tmp_path, cli):
    shutil.copytree(exported["bundle"], tmp_path / "moved")
    images = sorted((shapes / "test").glob("*/*.png"))
    one, other = (
        vitask.Classifier.from_pretrained(folder, "cpu") for folder in (evaluated.run("crt"), tmp_path / "moved")
    )
    for exemplar in (True, False):
        assert other.predict(images, exemplar=exemplar) == one.predict(images, exemplar=exemplar)
    assert one.predict(images, exemplar=True) != one.predict(images, exemplar=False)
    said = [cli("predict", f"run={folder}", *images).out for folder in (evaluated.run("crt"), tmp_path / "moved")]
    assert said[0] == said[1]


def test_the_card_says_what_is_known_of_the_run(evaluated, exported):
    metrics = json.loads((evaluated.run("crt") / "eval/test-off/metrics.json").read_text())
    environment = json.loads((evaluated.run("crt") / "environment.json").read_text())
    text, head = card(exported["merged"]), front_matter(exported["merged"])
    assert {key: head[key] for key in ("license", "library_name", "pipeline_tag")} == {
        "license": "other",
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
    }
    (result,) = head["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {name: metrics[name] for name in ("accuracy", "macro_f1", "auc")}
    low, high = metrics["intervals"]["accuracy"]
    assert f"{metrics['accuracy']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert environment["data"]["fingerprint"] in text
    assert "24 train, 9 val, 12 test" in text
    assert "25 % of training labels" in text
    assert "instead of InternVL2" in text, "what differs from the paper"
    assert "label probabilities differ by at most" in text
    (result,) = front_matter(exported["bundle"])["model-index"][0]["results"]
    names = [metric["name"] for metric in result["metrics"] if metric["type"] == "accuracy"]
    assert names == ["accuracy, without exemplar", "accuracy, with exemplar"]


def test_a_run_that_was_not_evaluated_is_exported_with_a_word_on_that(own_pipeline, tmp_path, cli):
    assert cli("export", f"run={own_pipeline.run('vanilla')}", f"out={tmp_path / 'out'}", "samples=2").code == 0
    assert "Not evaluated" in card(tmp_path / "out")
    assert "model-index" not in front_matter(tmp_path / "out")


def change_adapter(folder: Path, change) -> None:
    path = folder / "model/adapter/adapter_model.safetensors"
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path)


def refused_and_nothing_left(cli, folder: Path, code: int, *texts: str, options=()) -> None:
    for form in FORMS:
        ended = cli("export", f"run={folder}", f"to={form}", f"out={folder.parent / 'new' / form}", *options)
        assert ended.refuses(code, *texts)
        assert list((folder.parent / "new").iterdir()) == []


def test_a_lora_of_zeros_is_refused(own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    change_adapter(run, lambda name, tensor: tensor * ("lora_B" not in name))
    refused_and_nothing_left(cli, run, 1, "no weight changed", "nothing was written")


def test_one_weight_that_did_not_change_is_named(own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    change_adapter(run, lambda name, tensor: tensor * ("layers.1.mlp.up_proj.lora_B" not in name))
    refused_and_nothing_left(cli, run, 1, "1 of 14 weights did not change", "layers.1.mlp.up_proj")


def test_a_weight_that_is_no_number_is_refused(own_pipeline, cli):
    run = own_pipeline.run("vanilla")
    change_adapter(run, lambda name, tensor: tensor / (1 if "layers.1.mlp.up_proj.lora_B" not in name else 0))
    refused_and_nothing_left(cli, run, 1, "nothing was written")


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_says_something_else_is_refused(form, pipeline, tmp_path, cli, monkeypatch):
    written = getattr(run, f"write_{form}")

    def spoilt(*arguments) -> None:
        written(*arguments)
        (path,) = [*arguments[-1].glob("*model.safetensors"), *arguments[-1].glob("model/adapter/*.safetensors")]
        save_file({name: 1.5 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})

    monkeypatch.setattr(run, f"write_{form}", spoilt)
    ended = cli("export", f"run={pipeline.run('crt')}", f"to={form}", f"out={tmp_path / 'out'}")
    assert ended.refuses(1, "other label probabilities", "1e-05 is allowed with float32 weights")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_loaded_is_refused(pipeline, tmp_path, cli, monkeypatch):
    monkeypatch.setattr(run, "write_merged", lambda config, tuned, folder: None)
    ended = cli("export", f"run={pipeline.run('crt')}", f"out={tmp_path / 'out'}")
    assert ended.refuses(1, "transformers cannot load what was written")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_when_asked_and_only_an_export(pipeline, tmp_path, cli):
    out, options = tmp_path / "out", [f"run={pipeline.run('vanilla')}", "to=adapter", "samples=1"]
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert cli("export", *options, f"out={out}").refuses(2, "is there already", "overwrite=true")
    assert cli("export", *options, f"out={out}", "overwrite=true").refuses(2, "holds no export")
    assert files(out) == {"thesis.txt"}
    assert cli("export", *options, f"out={tmp_path / 'new'}").code == 0
    (tmp_path / "new/README.md").write_text("old")
    assert cli("export", *options, f"out={tmp_path / 'new'}", "overwrite=true").code == 0
    assert card(tmp_path / "new").startswith("---")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "new"}


def test_without_the_data_noise_is_asked_about_and_that_is_said(own_pipeline, shapes, tmp_path, cli):
    moved = shapes.rename(shapes.with_name("moved"))
    try:
        ended = cli("export", f"run={own_pipeline.run('crt')}", "to=bundle", "samples=3")
    finally:
        moved.rename(shapes)
    assert ended.code == 0, ended
    assert "with 3 images of noise, as the run's own data is not at hand" in ended.out
    assert "images of noise" in card(own_pipeline.run("crt") / "export/bundle")


def test_half_precision_has_a_tolerance_of_its_own(own_pipeline, tmp_path, cli):
    run = own_pipeline.run("vanilla")
    for name, words in {"config.yaml": ("float32", "bfloat16"), "model/vitask.json": ("base_digest", "none")}.items():
        (run / name).write_text((run / name).read_text().replace(*words))
    ended = cli("export", f"run={run}", f"out={tmp_path / 'out'}", "samples=3")
    assert ended.code == 0, ended
    assert "(0.05 is allowed)" in ended.out
    assert {tensor.dtype for tensor in load_file(tmp_path / "out/model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.slow
def test_trained_copies_of_tower_and_projector_go_in_too(small, tmp_path, cli):
    options = ["stage=vanilla", "vlm.train_tower=true", "vlm.train_projector=true", f"out={tmp_path}"]
    assert cli("train", *small, *options).code == 0
    (trained,) = tmp_path.glob("shapes/vanilla-*")
    for form in ("adapter", "merged"):
        ended = cli("export", f"run={trained}", f"to={form}", f"out={tmp_path / form}")
        assert ended.code == 0, ended
    base, merged = load_file(TINY_FOLDER / "model.safetensors"), load_file(tmp_path / "merged/model.safetensors")
    copies = load_file(trained / "model/adapter/adapter_model.safetensors")
    image = [key for key in base if "vision_tower" in key or "projector" in key]
    for key in image:
        (copy,) = [tensor for name, tensor in copies.items() if name.endswith(key.removeprefix("model."))]
        assert torch.equal(merged[key], copy)
    assert any(not torch.equal(merged[key], base[key]) for key in image)


@pytest.mark.parametrize(
    ("change", "forms", "text"),
    [
        ({"stage": {"name": "tsm"}}, FORMS, "the run of a TSM"),
        ({"stage": {"name": "head"}}, FORMS[:2], "linear head"),
        ({"data": {"instruction": {"hint": True}}}, FORMS[:2], "told the TSM's answer"),
    ],
)
def test_a_form_that_a_run_cannot_take_is_a_wrong_request(change, forms, text, own_pipeline, tmp_path, cli):
    from omegaconf import OmegaConf

    path = own_pipeline.run("ep") / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(path), change), path)
    for form in forms:
        assert cli("export", f"run={path.parent}", f"to={form}", f"out={tmp_path / 'x'}").refuses(2, text)


def test_wrong_words_are_refused(pipeline, tmp_path, cli):
    run = f"run={pipeline.run('ep')}"
    assert cli("export", run, "to=zip").refuses(2, "to: 'zip' is not one of adapter, merged, bundle")
    assert cli("export", run, "samples=0").refuses(2, "samples", "at least 1")
    assert cli("export", run, "put=x").refuses(2, "Did you mean 'out'?")
    assert cli("export").refuses(2, "run has no value")
    assert cli("export", f"run={tmp_path}").refuses(2, "no run there")


def test_greedy_generation_settings_lose_what_has_no_effect():
    """As llava-1.5 has them: transformers would write no such file."""
    from transformers import GenerationConfig

    settings = GenerationConfig(do_sample=False, temperature=0.2, top_p=0.6, max_new_tokens=8)
    with pytest.raises(ValueError, match="temperature"):
        settings.validate(strict=True)
    write._mend_generation(SimpleNamespace(generation_config=settings))
    settings.validate(strict=True)
    assert settings.max_new_tokens == 8


def test_probabilities_that_are_no_numbers_are_a_difference():
    samples = type("Samples", (), {"count": 2, "source": "images"})()
    rows = torch.tensor([[0.5, 0.5], [float("nan"), 1.0]])
    said = check.Said([rows], [])
    with pytest.raises(vitask.VitaskError, match="1 of 2 answers have other label probabilities"):
        check.compare(said, said, torch.float32, samples, "without exemplar", 3)
    near = check.Said([rows[:1] + torch.tensor([[9e-6, -9e-6]])], [])
    found = check.compare(check.Said([rows[:1]], []), near, torch.float32, samples, "", 3)
    assert found.difference == pytest.approx(9e-6, rel=0.01)


def test_another_answer_in_words_is_refused_and_in_half_precision_counted():
    samples = type("Samples", (), {"count": 2, "source": "questions"})()
    was, now = (check.Said([torch.ones(1, 3)], ["red", last]) for last in ("blue", "a blue circle"))
    with pytest.raises(vitask.VitaskError, match=r"1 of 2 greedy answers are not the run's own.*'a blue circle', was"):
        check.compare(was, now, torch.float32, samples, "without exemplar", 3)
    assert "1 of 2 greedy answers are the same" in str(check.compare(was, now, torch.bfloat16, samples, "", 3))
