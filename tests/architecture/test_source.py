"""What no file may hold: unsafe loading, too many lines; and what the package must list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import setuptools

from .sources import FILES, PACKAGE, ROOT, project

LONGEST = 350
PICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
ALL = sorted(path for folder in ("vitask", "tests", "scripts", "configs") for path in (ROOT / folder).rglob("*.py"))


def unsafe(tree: ast.AST) -> list[str]:
    """Name what could run foreign code on loading a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [module for module in modules if module.split(".")[0] in PICKLING]
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if name.endswith("load_checkpoint") and options.get("weights_only", "True") != "True":
            found.append("load_checkpoint without weights_only=True")
        if "allow_pickle" in options and options["allow_pickle"] != "False":
            found.append("allow_pickle")
        if options.get("trust_remote_code") == "True":
            found.append("trust_remote_code=True")
        if name in ("eval", "exec"):
            found.append(name)
    defaults = [a for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) for a in _true_defaults(n)]
    return found + [f"{name} is on by default" for name in defaults if name in ("trust_remote_code", "allow_pickle")]


def _true_defaults(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    positional = (arguments.posonlyargs + arguments.args)[-len(arguments.defaults) :] if arguments.defaults else []
    pairs = [*zip(positional, arguments.defaults, strict=True)]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [a.arg for a, default in pairs if isinstance(default, ast.Constant) and default.value is True]


def test_nothing_that_could_run_foreign_code_is_loaded():
    found = {str(path.relative_to(ROOT)): unsafe(ast.parse(path.read_text())) for path in FILES}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "def f(x, *, trust_remote_code=True): ...",
        "def f(x, allow_pickle=True): ...",
        "eval('1')",
    ],
)
def test_the_check_sees_what_is_unsafe(line):
    assert len(unsafe(ast.parse(line))) == 1


def test_no_file_is_longer_than_a_reader_bears():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ALL}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_the_package_list_names_every_package():
    listed = project()["tool"]["setuptools"]["packages"]
    assert listed == sorted([*setuptools.find_packages(str(ROOT), include=["vitask", "vitask.*"]), "vitask.configs"])


def test_extras_agree_with_one_another_and_the_suite_has_all_of_them():
    known = project()["project"]
    extras = known["optional-dependencies"]
    assert {"wandb", "trl", "tensorboard", "qlora", "ui", "excel"} <= set(extras)
    wanted = {line for name, lines in extras.items() if name != "dev" for line in lines}
    assert wanted <= {*known["dependencies"], *extras["dev"]}


def test_every_folder_with_source_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_yaml_file_is_covered_by_the_package_data():
    patterns = project()["tool"]["setuptools"]["package-data"]
    covered = {path for pattern in patterns["vitask.configs"] for path in (ROOT / "configs").glob(pattern)}
    assert covered == set((ROOT / "configs").rglob("*.yaml"))


def test_no_data_file_of_a_package_is_forgotten():
    patterns = project()["tool"]["setuptools"]["package-data"]
    covered = {
        path
        for package, globs in patterns.items()
        if package != "vitask.configs"
        for pattern in globs
        for path in Path(ROOT, *package.split(".")).glob(pattern)
    }
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files == covered
