"""The entry point: verbs, help, exit codes."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from importlib.resources import files

import pytest
import yaml

from vitask import __version__
from vitask.cli import main as module
from vitask.cli.main import VERBS
from vitask.config.compose import ROOTS, check_override, compose_config, groups
from vitask.config.grid import compose_grid
from vitask.errors import UsageError, VitaskError, did_you_mean


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb(arguments, cli):
    ended = cli(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert all(f"  {verb} " in ended.out for verb in VERBS)
    assert max(map(len, ended.out.splitlines())) <= 120


@pytest.mark.parametrize("argument", ["--version", "-V"])
def test_the_version_is_the_package_s(argument, cli):
    assert cli(argument).out == f"vitask {__version__}\n"


@pytest.mark.parametrize(("verb", "hint"), [("trian", " Did you mean 'train'?"), ("xyz", ""), ("--xyz", "")])
def test_an_unknown_verb_is_refused_with_the_nearest(verb, hint, cli):
    ended = cli(verb)
    assert ended.refuses(2, f"unknown verb '{verb}'.{hint} There are train, doctor, evaluate, predict")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_verb_explains_itself(verb, flag, cli):
    ended = cli(verb, flag)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: vitask {verb}")
    assert "Examples:" in ended.out
    assert f"  vitask {verb} " in ended.out


def test_help_lists_every_group_and_option(cli):
    out = cli("train", "--help").out
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ") and " of: " in line}
    expected = {name: options for name, options in groups().items() if name != "ablation"}
    assert set(lines) == set(expected)
    assert all(lines[name].split(" of: ")[1].split(", ") == options for name, options in expected.items())


@pytest.mark.parametrize("verb", ["train", "evaluate", "compare", "predict", "export", "report", "bench"])
def test_help_lists_every_key_of_the_root_with_its_default(verb, cli):
    root = yaml.safe_load((files("vitask.configs") / f"{verb}.yaml").read_text())
    out = cli(verb, "--help").out
    assert all(f"\n  {key}: " in out for key in root if key != "defaults")


def test_the_examples_of_train_compose(cli):
    for verb in ("train", None):
        out = cli(*([verb] if verb else []), "--help").out
        lines = [line.split("   ")[0].strip() for line in out.splitlines() if line.startswith("  vitask train")]
        for line in filter(None, lines):
            compose_config("train", line.split()[2:])


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"completion"}))
def test_examples_of_help_are_read_as_they_stand(verb):
    """Grids and overrides alone: the runs and files that they name are not here."""
    text = importlib.import_module(f"vitask.cli.{verb.replace('-', '_')}").EXAMPLES
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("vitask ")]
    assert lines
    for line in lines:
        words = shlex.split(re.split(r"\s{2,}", line)[0])[2:]
        if verb == "ablate":
            compose_grid(words[0], words[1:])
            continue
        place = words[0] if verb == "config" and words and words[0] in ("evaluate", "ablate") else verb
        root = {"demo-ui": "demo_ui", "doctor": "train", "data": "train", "config": "train"}.get(place, place)
        for override in (word for word in words if "=" in word and root in ROOTS):
            if not (root == "evaluate" and override.startswith("data")):  # a run's folder, or a training run's keys
                check_override(root, override)


def test_help_of_ablate_names_every_grid(cli):
    ended = cli("ablate", "--help")
    assert set(groups()["ablation"]) <= set(ended.out.replace(".", " ").split())


def test_a_verb_without_arguments_that_needs_some_shows_help(cli):
    assert cli("ablate").out.startswith("Usage: vitask ablate NAME")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("wrong key"), 2, "vitask: wrong key\n"),
        (VitaskError("broken file"), 1, "vitask: broken file\n"),
        (KeyboardInterrupt(), 130, "vitask: interrupted; the same command resumes from the last checkpoint\n"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), 1, "vitask: a/b: No such file or directory\n"),
        (PermissionError(13, "No", "a/b"), 1, "vitask: a/b: No; see to its permissions, or name another place\n"),
        (OSError(28, "Disk full", "a/b"), 1, "vitask: a/b: Disk full; make room, then give the same command again\n"),
    ],
)
def test_what_goes_wrong_ends_in_one_line_and_a_code(error, code, said, cli, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr(importlib.import_module("vitask.cli.train"), "main", fail)
    ended = cli("train")
    assert (ended.code, ended.err, ended.out) == (code, said, "")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("no file is named")])
def test_a_bug_is_not_hidden(error, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr(importlib.import_module("vitask.cli.train"), "main", fail)
    with pytest.raises(type(error)):
        module.main(["train"])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_module_of_its_name(verb):
    assert callable(importlib.import_module(f"vitask.cli.{verb.replace('-', '_')}").main)


def test_the_nearest_word_is_suggested_or_none():
    assert did_you_mean("vanila", ["ep", "vanilla"]) == " Did you mean 'vanilla'?"
    assert did_you_mean("zzz", ["ep", "vanilla"]) == ""


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "vitask", *arguments], text=True, timeout=60, **options)


def test_it_runs_as_a_module():
    ended = run("--version", capture_output=True)
    assert (ended.returncode, ended.stdout) == (0, f"vitask {__version__}\n")
    ended = run("nothing", capture_output=True)
    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_reader_that_has_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    ended = run("train", "--help", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
