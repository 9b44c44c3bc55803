"""`vitask completion`: what a shell offers, asked in a real one."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from vitask.cli.completion import SCRIPTS, complete
from vitask.cli.main import VERBS
from vitask.config.compose import groups
from vitask.config.grid import compose_grid

ASK = r"""
eval "$(vitask completion bash)"
COMP_LINE="$1" COMP_POINT="${#1}"
read -r -a COMP_WORDS <<<"${1//=/ = }"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_vitask vitask "${COMP_WORDS[COMP_CWORD]}"
printf '%s\n' "${COMPREPLY[@]}"
"""
HEAVY = "import sys; heavy = {'torch', 'hydra', 'transformers', 'numpy'} & set(sys.modules); assert not heavy, heavy"


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """A PATH on which `vitask` is that of this interpreter."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "vitask"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vitask "$@"\n')
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def ask(shell: list[str], path: str, line: str) -> list[str]:
    ended = subprocess.run([*shell, line], capture_output=True, text=True, timeout=60, env={"PATH": path})
    assert (ended.returncode, ended.stderr) == (0, "")
    return [word for word in ended.stdout.splitlines() if word]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vitask eva", ["evaluate"]),
        ("vitask train obj", ["objective=", "objective."]),
        ("vitask train stage=", groups()["stage"]),  # behind '=', which bash takes for a word of its own
        ("vitask train stage=ep objective.rda.direction=s", ["student_first"]),
        ("vitask nothing ", []),
    ],
)
def test_bash_offers_the_words_that_fit(line, offered, path):
    assert ask(["bash", "--norc", "-c", ASK, "bash"], path, line) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_reads_its_script(tmp_path):
    (tmp_path / "script").write_text(SCRIPTS["zsh"])
    subprocess.run(["zsh", "-n", str(tmp_path / "script")], check=True, timeout=60)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vitask ", [*VERBS]),
        ("vitask --", ["--help", "--version"]),
        ("vitask train --", ["--help"]),
        ("vitask train tsm.op", ["tsm.optim."]),
        ("vitask train tsm.optim.b", ["tsm.optim.batch_size="]),
        ("vitask train vlm=internvl3", ["vlm=internvl3_1b", "vlm=internvl3_2b", "vlm=internvl3_8b"]),
        ("vitask doctor overwrite=", ["overwrite=true", "overwrite=false"]),
        ("vitask train logger.tracker=w", ["logger.tracker=wandb"]),
        ("vitask train seed=", []),
        ("vitask train nothing.x", []),
        ("vitask data ", ["inspect"]),
        ("vitask data inspect data.sh", ["data.shift."]),
        ("vitask evaluate exemplar=o", ["exemplar=on", "exemplar=off"]),
        ("vitask evaluate data=apt", ["data=aptos2019"]),
        ("vitask evaluate data.si", ["data.size="]),
        ("vitask ablate ", groups()["ablation"]),
        ("vitask ablate demo see", ["seeds=", "seed="]),
        ("vitask demo-ui po", ["port="]),
        ("vitask predict objective", []),
        ("vitask config eva", ["evaluate"]),
        ("vitask config evaluate pro", ["probe="]),
        ("vitask config stage=ep tag", ["tag="]),
        (
            "vitask config ablate recom",
            ["recommended", "recommended_pairs", "recommended_parity", "recommended_size", "recommended_xray"],
        ),
        ("vitask completion ", ["bash", "zsh"]),
        ("vitask completion bash ", []),
    ],
)
def test_a_word_may_become(line, words):
    assert complete(line) == words


def test_every_key_and_group_can_be_reached():
    from vitask.config.keys import ROOTS, typed_keys

    for root in ROOTS:
        verb = root.replace("_", "-")
        for key in typed_keys(root):
            if key != "other_data" and not key.startswith("other_data."):
                assert any(word.startswith((f"{key}=", f"{key}.")) for word in complete(f"vitask {verb} {key}")), key
    assert all(f"{name}=" in complete("vitask train ") for name in groups() if name != "ablation")


def test_own_groups_are_offered(tmp_path, monkeypatch):
    (tmp_path / "objective").mkdir()
    (tmp_path / "objective/mine.yaml").write_text("alpha: 0.25\n")
    monkeypatch.setenv("VITASK_CONFIG_DIR", str(tmp_path))
    assert complete("vitask train objective=m") == ["objective=mine"]


def test_a_completed_grid_exists():
    assert [compose_grid(name, [])[0].title for name in complete("vitask ablate fig")]


def test_it_loads_nothing_heavy():
    program = f"from vitask.cli.main import main; main(['__complete', 'vitask train obj'])\n{HEAVY}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.split()) == (0, ["objective=", "objective."]), ended.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_is_printed(shell, cli):
    assert cli("completion", shell).out == f"{SCRIPTS[shell].strip()}\n"


@pytest.mark.parametrize(("words", "said"), [(("bsh",), "Did you mean 'bash'?"), (("bash", "zsh"), "no script for")])
def test_another_shell_is_refused(words, said, cli):
    assert cli("completion", *words).refuses(2, said, "There are bash, zsh")
