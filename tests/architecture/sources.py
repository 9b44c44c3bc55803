"""The source as syntax trees: which module imports what, and when."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from setuptools.config.pyprojecttoml import read_configuration

import vitask

PACKAGE = Path(vitask.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))


@dataclass(frozen=True)
class Import:
    """One import statement: the file, the dotted module, and `top` (at start), `late` (in a function) or `typing`."""

    file: str
    module: str
    when: str


def room(module: str) -> str:
    """`vitask.data.task` -> `data`; the package itself is ''."""
    return module.partition(".")[2].partition(".")[0]


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts[0] != "__init__" else ""


def imports_of(path: Path) -> list[Import]:
    return list(_imports(ast.parse(path.read_text()), path, "top"))


def _imports(node: ast.AST, path: Path, when: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        file = str(path.relative_to(ROOT))
        if isinstance(child, ast.Import):
            yield from (Import(file, alias.name, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = _module(child, path)
            yield Import(file, module, when)
            if module == "vitask":
                yield from (Import(file, f"vitask.{alias.name}", when) for alias in child.names)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, path, "late")
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(child, path, "typing")
        else:
            yield from _imports(child, path, when)


def _module(node: ast.ImportFrom, path: Path) -> str:
    """The module that is imported from, written out; relative in the losses alone, which may be copied as a folder."""
    if node.level == 0:
        return node.module
    room, *inside = path.relative_to(PACKAGE).parts
    assert (room, len(inside), node.level) == ("losses", 1, 1), f"{path}: a relative import; write it out"
    return f"vitask.{room}.{node.module}"


def project() -> dict:
    """pyproject.toml, read by setuptools (tomllib is not in Python 3.10)."""
    return read_configuration(ROOT / "pyproject.toml", expand=False)


IMPORTS = [found for path in FILES for found in imports_of(path)]
