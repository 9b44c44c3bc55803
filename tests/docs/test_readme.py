"""What README.md shows works: its commands run on a small pipeline, or compose; its Python runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.conftest import Pipeline, call
from vitask.config.compose import check_override, compose_config
from vitask.config.grid import compose_grid
from vitask.errors import UsageError
from vitask.runs.train import planned_stages

from .commands import ROOT, blocks, commands, options, spans

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = commands(PAGE)
RUN = {
    "compare": ("device=cpu",),
    "config": (),
    "data": (),
    "evaluate": ("generate=false", "device=cpu", "overwrite=true"),
    "export": ("samples=2", "device=cpu"),
    "predict": ("device=cpu",),
    "report": (),
}
"""Verbs that are run on the small pipeline, with what makes them quick."""
COMPOSED = {
    "ablate": "a grid takes minutes to hours; tests/runs/test_ablate.py runs small ones",
    "bench": "takes minutes; tests/bench runs it in the smallest size",
    "demo-ui": "serves until it is interrupted; tests/ui runs it",
    "doctor": "tests/runs/test_doctor.py runs it",
    "torchrun": "starts several processes; tests/invariant does",
    "accelerate": "starts several processes; tests/invariant does",
    "train": "the small pipeline was trained so; below, stage by stage, with the README's words",
    "...": "words to be put behind `vitask train`",
}
"""Verbs and programs whose words are composed and checked alone, and why."""
LEFT = {
    "bash": "this suite's own scripts; their syntax is checked below",
    "completion": "tests/cli/test_completion.py",
    "eval": "tests/cli/test_completion.py",
    "hf": "downloads",
    "pip": "downloads",
    "python": "a script of scripts/; tests/scripts and tests/data run them; that it is there is checked below",
}
NEEDS = {
    "runs/ablations/demo": "a finished grid",
    "push=me/digits": "the network",
    "exemplar_table=other.parquet": "a table of vectors; tests/runs/test_exemplar_sources.py has one",
    "probe=embedded": "64 pictures take a quarter of a minute; tests/runs/test_probe.py runs it",
    "probe=captions.jsonl": "a table; tests/runs/test_probe.py has one",
}
"""Words that the small pipeline cannot give, or not quickly; a command that holds one is composed alone."""
TRAINED = (("vitask", "train"), ("vitask", "train", "stage=crt", "objective.alpha=0.3"))


def kind(words: tuple[str, ...]) -> str:
    return words[1] if words[0] == "vitask" and len(words) > 1 else words[0]


def of(kinds) -> list:
    """The commands of some kinds, without those that only name a verb."""
    found = [words for words in COMMANDS if kind(words) in kinds and (len(words) > 2 or words[1:] == ("train",))]
    return [pytest.param(words, id=" ".join(words)) for words in found]


def filled(words: tuple[str, ...]) -> list[str]:
    """Overrides with a value where the page has dots."""
    return [word.replace("=...", "=x") for word in words if word != "..."]


def compose(verb: str, words: tuple[str, ...]) -> None:
    """Compose what a command would work with."""
    if verb == "ablate":
        compose_grid(words[0], filled(words[1:]))
        return
    root = {"demo-ui": "demo_ui", "doctor": "train"}.get(verb, verb)
    compose_config(root, [word for word in filled(words) if "=" in word])


@pytest.fixture(scope="module")
def place(pipeline, shapes, tmp_path_factory) -> Pipeline:
    """A folder with `runs`, `photos/`, `image.png` and `folder/`, as the page has them."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(pipeline.out, folder / "runs", ignore=shutil.ignore_patterns("eval"))
    shutil.copytree(shapes, folder / "photos")
    shutil.copytree(shapes / "test/bar", folder / "folder")
    shutil.copy(shapes / "test/dot/0.png", folder / "image.png")
    return Pipeline(folder / "runs", pipeline.overrides)


def adapted(word: str, place: Pipeline) -> list[str]:
    """A word of the page in terms of the small pipeline."""
    run = re.fullmatch(r"(\w+=)?runs/\w+/(tsm|vanilla|ep|crt)-\S*", word)
    if run:
        return [f"{run[1] or ''}{place.run(run[2])}"]
    if word == "data=...":
        return [each for each in place.overrides if each.startswith(("data", "cache"))]
    told = {"run=...": [f"run={place.run('crt')}"], "RUN_A": [str(place.run("vanilla"))]}
    return {**told, "RUN_B": [str(place.run("crt"))]}.get(word, [word])


def test_every_command_is_of_a_known_kind():
    known = {*RUN, *COMPOSED, *LEFT}
    assert [" ".join(words) for words in COMMANDS if kind(words) not in known] == []
    assert len(COMMANDS) > 40, "the page is read"


def test_what_is_excused_is_still_on_the_page():
    kinds = {kind(words) for words in COMMANDS}
    assert {"ablate", "bench", "train", "torchrun", "evaluate", "export", "report", "compare"} <= kinds
    assert [word for word in NEEDS if word not in PAGE] == []


@pytest.mark.slow
@pytest.mark.parametrize("words", of(RUN))
def test_a_command_runs(words, place, monkeypatch):
    monkeypatch.chdir(place.out.parent)
    verb, *rest = words[1:]
    if set(rest) & set(NEEDS):
        compose(verb, tuple(rest))
        return
    given = [each for word in rest for each in adapted(word, place)]
    ended = call([verb, *given, *(each for each in RUN[verb] if each not in given)])
    assert (ended.code, bool(ended.out)) == (0, True), ended


@pytest.mark.slow
@pytest.mark.parametrize("words", TRAINED, ids=" ".join)
def test_a_training_command_runs(words, place, monkeypatch):
    assert words in COMMANDS
    monkeypatch.chdir(place.out.parent)
    ended = call([*words[1:], *place.overrides])
    assert ended.code == 0, ended


@pytest.mark.parametrize("words", of(COMPOSED))
def test_a_command_composes(words):
    if words[0] in ("torchrun", "accelerate"):
        if "vitask" not in words:
            assert words in {("accelerate", "launch")}
            return
        words = words[words.index("-m") + 1 :]
    if words[0] == "...":
        compose("ablate" if words[1].startswith("vitask") else "train", words[1:])
        return
    verb, *rest = words[1:]
    compose(verb, tuple(word for word in rest if word != "..."))


@pytest.mark.parametrize("words", of({"train"}))
def test_a_training_command_is_not_refused_before_its_data_are_read(words):
    if "lora=qlora" in words:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (vitask[qlora])")
    assert planned_stages(compose_config("train", filled(words[2:])))


def test_the_scripts_are_there():
    named = {word for words in COMMANDS for word in words if re.fullmatch(r"scripts/\S+\.(sh|py)", word)}
    assert {"scripts/demo.sh", "scripts/test.sh"} <= named
    for script in sorted(named):
        assert (ROOT / script).is_file(), script
        if script.endswith(".sh"):
            subprocess.run(["bash", "-n", str(ROOT / script)], check=True, timeout=30)


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in options(PAGE)])
def test_an_option_of_a_table_exists(words):
    for word in filled(words):
        refusals = []
        for root in ("train", "evaluate", "export", "report", "predict"):
            try:
                check_override(root, word)
                break
            except UsageError as error:
                refusals.append(str(error))
        else:
            pytest.fail(refusals[0])


def test_a_wrong_command_is_noticed():
    page = "```bash\nvitask trian stage=ep # x\n```\n| a | `optim.lrr=1` or `vitask evaluate run=... rankin=true` |"
    found = commands(page)
    assert found == [("vitask", "trian", "stage=ep"), ("vitask", "evaluate", "run=...", "rankin=true")]
    assert kind(found[0]) not in {*RUN, *COMPOSED, *LEFT}
    with pytest.raises(UsageError, match="ranking"):
        compose("evaluate", found[1][2:])
    assert options(page) == [("optim.lrr=1",)]


def test_files_that_are_named_exist():
    paths = {span for span in spans(PAGE) if re.fullmatch(r"(vitask|configs|tests|scripts)/[\w./]+", span)}
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", PAGE)
    assert [link for link in links if not (ROOT / link).exists() and link != "RESULTS.md"] == []


@pytest.mark.slow
def test_the_python_of_the_page_runs(place, shapes, monkeypatch, capsys):
    programs = blocks(PAGE, "python")
    assert len(programs) == 2
    monkeypatch.chdir(place.out.parent)
    program = programs[0].replace('"data=digits"', "*SMALL").replace('"three.png"', "IMAGE")
    assert program.count("*SMALL") == program.count("IMAGE") == 1
    image = Path(shapes / "test/bar/0.png")
    names = {"SMALL": place.overrides, "IMAGE": image}
    exec(compile(program, "README.md", "exec"), names)
    said = names["without"], names["with_exemplar"]
    assert [(metrics["mode"], metrics["samples"]) for metrics in said] == [("off", 12), ("on", 12)]
    assert all(0 <= metrics["accuracy"] <= 1 for metrics in said)

    labels = torch.tensor([[-100, -100, 3, 7], [-100, -100, 4, 7]])
    logits = {f"logits_{name}": torch.randn(2, 4, 8) for name in ("without_exemplar", "of_other_image")}
    names = {**logits, "logits_with_exemplar": torch.randn(2, 5, 8), "labels": labels}
    names["labels_with_exemplar"] = torch.nn.functional.pad(labels, (1, 0), value=-100)
    exec(compile(programs[1], "README.md", "exec"), names)
    assert names["loss"].ndim == 0
    assert names["loss"] > 0
