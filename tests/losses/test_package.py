from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vitask.losses

MODULES = ["vitask.losses", *(f"vitask.losses.{m.name}" for m in pkgutil.iter_modules(vitask.losses.__path__))]
HEAVY = ["transformers", "timm", "peft", "datasets", "hydra", "wandb", "accelerate", "torchvision"]


def test_importing_the_losses_loads_torch_and_nothing_heavy():
    program = f"import sys, vitask.losses; print([m for m in {HEAVY} if m in sys.modules], 'torch' in sys.modules)"
    root = Path(vitask.losses.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.split() == ["[]", "True"]


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_the_standard_library_torch_and_this_room(name):
    tree = ast.parse(Path(importlib.import_module(name).__file__).read_text())
    found = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    found |= {"." * n.level + n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    outside = {m for m in found if m.split(".")[0] not in sys.stdlib_module_names | {"torch"}}
    assert all(m.startswith(".") and not m.startswith("..") for m in outside)


def test_the_folder_works_under_any_name(tmp_path):
    shutil.copytree(Path(vitask.losses.__file__).parent, tmp_path / "borrowed")
    program = f"""
import sys
sys.modules["vitask"] = None  # cannot be imported
import borrowed, torch
labels = torch.tensor([[3, 7, -100]])
print(borrowed.VanillaLoss()(torch.zeros(1, 3, 8), labels).isclose(torch.tensor(8.0).log()).item())
print([m for m in {HEAVY} if m in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.split() == ["True", "[]"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
    assert results.attempted > 0 or name.rpartition(".")[2].startswith("_")


def test_everything_public_is_exported_and_documented():
    for name in MODULES[1:]:
        module = importlib.import_module(name)
        for public, value in vars(module).items():
            if getattr(value, "__module__", None) == name and not public.startswith("_") and "._" not in name:
                assert getattr(vitask.losses, public) is value
                assert public in vitask.losses.__all__
                assert "Source: " in value.__doc__, public
                assert ">>> " in value.__doc__, public
    assert all(hasattr(vitask.losses, public) for public in vitask.losses.__all__)
