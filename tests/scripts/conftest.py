"""The conversion as a module, and checkpoints before and after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .internvl2 import write_original
from .pair import Pair


@pytest.fixture(scope="session")
def script():
    from vitask.vlm import convert_internvl2

    return convert_internvl2


@pytest.fixture(scope="session")
def pairs(script, tmp_path_factory):
    made: dict[str, Pair] = {}

    def pair(kind: str) -> Pair:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            tensors = write_original(folder / "original", kind, files=2 if kind == "qwen2" else 1)
            script.convert(folder / "original", folder / "made" / "native")
            made[kind] = Pair(folder / "original", folder / "made" / "native", tensors)
        return made[kind]

    return pair


@pytest.fixture
def own(tmp_path) -> Path:
    """An original that a test may spoil."""
    write_original(tmp_path / "original", "internlm2")
    return tmp_path / "original"
