"""Places that cases name in braces: an empty folder, or a copy of the small pipeline."""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def imported() -> None:
    """What a library prints when it is first imported is none of the one line of a case that loads a model."""
    with suppress(ImportError):
        importlib.import_module("bitsandbytes")


@pytest.fixture(autouse=True)
def shipped_configs(monkeypatch) -> None:
    """`--config-dir` sets a variable; a case must not leave it to the next."""
    monkeypatch.setenv("VITASK_CONFIG_DIR", "")


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def places(tmp_path, cache) -> dict[str, Path]:
    return {"tmp": tmp_path, "out": tmp_path / "runs", "cache": cache}


@pytest.fixture
def runs(own_pipeline, shapes, tmp_path) -> dict[str, Any]:
    """Run folders of tsm, vanilla, ep and crt, the settings that find them, and files that are no images."""
    (tmp_path / "notes.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    found = {stage: own_pipeline.run(stage) for stage in ("tsm", "vanilla", "ep", "crt")}
    other = {"text": tmp_path / "notes.png", "empty": tmp_path / "empty.png", "image": shapes / "test/bar/0.png"}
    return {**found, **other, "tmp": tmp_path, "settings": " | ".join(own_pipeline.arguments)}
