"""The wheel holds all that a run needs, and works outside the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from ast import literal_eval
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("vitask", "configs", "pyproject.toml", "README.md", "LICENSE")


def python(*arguments: str, cwd: Path, **options) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=240, **options
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """A wheel of a copy of the sources, so that the checkout gets no build folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), cwd=source)
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    python("-m", "pip", "install", *options, "--target", str(target), str(wheel), cwd=target)
    return target


@pytest.mark.slow
def test_the_wheel_holds_every_config_the_tiny_model_and_the_type_marker(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    configs = {f"vitask/configs/{p.relative_to(ROOT / 'configs').as_posix()}" for p in ROOT.glob("configs/**/*.yaml")}
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "vitask").rglob("*") if p.is_file()}
    sources = {name for name in sources if "__pycache__" not in name}
    wanted = configs | sources | {"vitask/configs/__init__.py"}
    assert {"vitask/py.typed", "vitask/vlm/tiny/model.safetensors"} <= wanted
    found = {name for name in names if ".dist-info/" not in name}
    assert found == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_installed_package_works_in_an_empty_folder(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    options = {"cwd": tmp_path, "env": environment}
    assert "Groups" in python("-m", "vitask", "train", "--help", **options)
    program = (
        "import vitask, vitask.configs; print(vitask.__file__); print(vitask.configs.__file__)\n"
        "from vitask.config.compose import compose_config, groups\n"
        "print(compose_config('train', ['experiment=paper_derma']).data.name, len(groups()['experiment']))\n"
        "from vitask.config.build import build_vlm\n"
        "vlm, _ = build_vlm(compose_config('train', ['stage=vanilla']), None, None)\n"
        "print(type(vlm).__name__)"
    )
    package, configs, composed, model = python("-c", program, **options).splitlines()
    assert Path(package) == installed / "vitask" / "__init__.py", "the checkout was found, not the wheel"
    assert Path(configs) == installed / "vitask" / "configs" / "__init__.py"
    assert composed == "dermamnist 14"
    assert model == "ExemplarVLM"
    assert list(tmp_path.iterdir()) == []


PLAIN = """
import sys
sys.modules["vitask"] = None  # cannot be imported
{code}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_own_images_become_a_checkpoint_for_plain_transformers(installed, shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "photos")
    shutil.copy(shapes / "test/bar/1.png", tmp_path / "image.png")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with_wheel, without = {**environment, "PYTHONPATH": str(installed)}, {**environment, "PYTHONPATH": ""}
    seconds = {}

    def run(name: str, *words: str, env: dict[str, str]) -> str:
        started = time.perf_counter()
        out = python(*words, cwd=tmp_path, env=env)
        seconds[name] = time.perf_counter() - started
        return out

    data = ("data=image_folder", "data.root=photos", "data.modality=shape", "cache=cache")
    brief = ("optim.epochs=1", "optim.lr=3e-4", "tsm.optim.epochs=1", "launch.device=cpu")
    run("train", "-m", "vitask", "train", "stage=ep", *data, *brief, env=with_wheel)
    (trained,) = (tmp_path / "runs/photos").glob("ep-*")
    run("export", "-m", "vitask", "export", f"run={trained}", "out=merged", "device=cpu", env=with_wheel)
    card = re.search(r"```python\n(.*?)\n```", (tmp_path / "merged/README.md").read_text(), re.DOTALL)[1]
    found = run("plain transformers", "-c", PLAIN.format(code=card), env=without)
    classify = (
        "import json, sys, vitask; assert vitask.__file__.startswith(sys.argv[2]); "
        "classifier = vitask.Classifier.from_pretrained(sys.argv[1], 'cpu'); "
        "print(json.dumps(classifier.predict('image.png', exemplar=False)[0].probabilities))"
    )
    wanted = run("vitask", "-c", classify, str(trained), str(installed), env=with_wheel)
    expected = json.loads(wanted.splitlines()[-1])
    labels, probabilities = literal_eval(found.splitlines()[-1])
    assert probabilities == pytest.approx(expected, abs=1e-5)
    assert labels == [max(expected, key=expected.get)]
    assert len(expected) == 3
    assert 0.34 < max(expected.values()) < 0.999, "neither all alike nor all in one"
    print(", ".join(f"{name}: {each:.1f} s" for name, each in seconds.items()))
