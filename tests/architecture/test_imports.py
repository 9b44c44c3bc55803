"""Imports run one way: cli -> runs -> config -> training, evaluation -> vlm, tsm, data, losses."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from .sources import FILES, IMPORTS, PACKAGE, Import, _imports, imports_of, project, room, room_of

MODELS = {"losses", "data", "tsm", "vlm"}
BELOW_CONFIG = {*MODELS, "training", "evaluation", "errors"}
MAY_IMPORT = {
    "": {"api", "errors"},
    "__main__": {"cli"},
    "errors": set(),
    "files": set(),
    "interruption": {"errors"},
    "losses": set(),
    "data": {"errors", "files"},
    "tsm": {"errors", "files"},
    "vlm": {"errors", "files"},
    "training": {*MODELS, "errors", "files", "interruption"},
    "evaluation": {"vlm", "errors"},
    "reporting": {"evaluation", "errors", "files"},
    "config": BELOW_CONFIG,
    "runs": {*BELOW_CONFIG, "config", "files", "interruption", "reporting"},
    "bench": {*BELOW_CONFIG - {"tsm"}, "config", "files", "reporting", "__version__"},
    "export": {*BELOW_CONFIG, "config", "files", "reporting", "runs"},
    "ui": {"data", "config", "runs", "errors"},
    "api": {"tsm", "config", "runs", "errors"},
    "cli": {*BELOW_CONFIG, "config", "interruption", "reporting", "runs", "bench", "export", "ui", "__version__"},
}
HEAVY = {"torch", "torchvision", "transformers", "timm", "peft", "accelerate", "datasets"}
NOT_AT_START = {
    "data": HEAVY | {"PIL", "sklearn", "medmnist", "rich", "yaml", "pyarrow", "pandas", "filelock"},
    "config": HEAVY,
    "cli": HEAVY | {"hydra", "omegaconf", "numpy", "yaml", "rich"},
    "errors": HEAVY,
    "files": HEAVY | {"numpy"},
    "interruption": HEAVY | {"numpy"},
    "": HEAVY | {"hydra", "omegaconf", "numpy", "PIL"},
    "api": HEAVY | {"hydra", "omegaconf", "numpy", "PIL"},
    "__main__": HEAVY,
    "reporting": HEAVY | {"scipy", "matplotlib", "jinja2", "markupsafe", "numpy"},
}


def outside(found: Import) -> str:
    """The top-level name of a module that is neither vitask's nor the standard library's, or ''."""
    top = found.module.split(".")[0]
    return "" if top == "vitask" or top in sys.stdlib_module_names else top


def test_every_room_has_a_rule():
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)


def test_the_rules_have_no_circle():
    order = [
        "errors",
        "files",
        "interruption",
        "losses",
        "data",
        "tsm",
        "vlm",
        "training",
        "evaluation",
        "config",
        "reporting",
        "runs",
        "bench",
        "export",
        "ui",
        "api",
        "cli",
    ]
    for name, allowed in MAY_IMPORT.items():
        place = order.index(name) if name in order else len(order)
        assert all(order.index(other) < place for other in allowed - {"__version__"})


@pytest.mark.parametrize("name", sorted(MAY_IMPORT))
def test_a_room_imports_only_rooms_below_it(name):
    found = [i for path in FILES if room_of(path) == name for i in imports_of(path)]
    rooms = [(i.file, room(i.module)) for i in found if i.module.split(".")[0] == "vitask" and i.module != "vitask"]
    wrong = [f"{file} imports {other}" for file, other in rooms if other not in MAY_IMPORT[name] | {name}]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(NOT_AT_START))
def test_a_light_room_imports_nothing_heavy_at_start(name):
    found = [i for path in FILES if room_of(path) == name for i in imports_of(path)]
    assert [i for i in found if i.when == "top" and outside(i) in NOT_AT_START[name]] == []


def test_the_losses_import_torch_and_the_standard_library_alone():
    assert {outside(i) for i in IMPORTS if i.file.startswith("vitask/losses/")} == {"", "torch"}


def test_reporting_never_imports_torch_not_even_late():
    assert [i for i in IMPORTS if i.file.startswith("vitask/reporting/") and outside(i) in HEAVY] == []


def test_data_never_imports_a_model_library_not_even_late():
    found = {outside(i) for i in IMPORTS if i.file.startswith("vitask/data/")}
    assert not found & {"torch", "transformers", "timm", "peft", "accelerate"}


def test_hydra_is_known_to_config_alone():
    assert {room_of(Path(PACKAGE.parent, i.file)) for i in IMPORTS if outside(i) == "hydra"} == {"config"}


def test_datasets_is_imported_inside_functions_only():
    assert [i for i in IMPORTS if outside(i) == "datasets" and i.when == "top"] == []


def test_trackers_are_left_to_accelerate():
    assert [i for i in IMPORTS if outside(i) in {"wandb", "tensorboard"}] == []


def test_every_library_that_is_imported_is_declared():
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "hydra": "hydra-core", "omegaconf": "hydra-core"}
    comes_along = {"yaml": "omegaconf", "scipy": "scikit-learn", "pyarrow": "datasets", "markupsafe": "jinja2"}
    comes_along |= {"tokenizers": "transformers", "google": "wandb"}
    known = project()["project"]
    lines = [*known["dependencies"], *known["optional-dependencies"]["excel"], *known["optional-dependencies"]["ui"]]
    declared = {re.match(r"[\w-]+", line)[0] for line in lines}
    used = {names.get(outside(i), outside(i)) for i in IMPORTS} - {"", *comes_along}
    assert used <= declared


def test_the_reader_of_imports_tells_when_they_happen():
    text = (
        "import a\nfrom b.c import d\nif TYPE_CHECKING:\n    import e\n"
        "def f():\n    import g\n    class H:\n        from i import j\n"
        "try:\n    import k\nexcept ImportError:\n    pass"
    )
    found = [(i.module, i.when) for i in _imports(ast.parse(text), PACKAGE / "x.py", "top")]
    assert found == [("a", "top"), ("b.c", "top"), ("e", "typing"), ("g", "late"), ("i", "late"), ("k", "top")]
