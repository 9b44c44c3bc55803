"""What several rooms need: the command line in this process, and one small pipeline that is trained once."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

CLASSES = {"bar": (slice(1, 7), slice(3, 5)), "dot": (slice(3, 5), slice(3, 5)), "row": (slice(3, 5), slice(1, 7))}
COUNTS = {"train": 8, "val": 3, "test": 4}
ROWS = 28  # two of every class of the MedMNIST set with the most, in every split


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files whose tests may take long begin first, so that no worker is left alone with one at the end."""
    longest: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        own = limit.args[0] if limit else float(item.get_closest_marker("slow") is not None)
        longest[item.path] = max(own, longest.get(item.path, 0))
    items.sort(key=lambda item: -longest[item.path])


def hear_ctrl_c() -> None:
    """As in a terminal: a suite that runs in the background hands on that Ctrl-C is to be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    def refuses(self, code: int, *texts: str) -> bool:
        """Check that it ended with this code and one line that holds the texts."""
        assert self.code == code, self
        assert self.err.startswith("vitask: "), self
        assert self.err.count("\n") == 1, self
        assert "Traceback" not in self.err + self.out
        assert all(text in self.err for text in texts), self.err
        return True


@dataclass(frozen=True)
class Pipeline:
    """A small pipeline on disk: its folder, the overrides that it was trained with, and its run folders by stage."""

    out: Path
    overrides: tuple[str, ...]

    def run(self, stage: str) -> Path:
        """The run folder of a stage."""
        (found,) = (self.out / "shapes").glob(f"{stage}-seed0-*")
        return found

    @property
    def arguments(self) -> list[str]:
        """Overrides that find these runs."""
        return [*self.overrides, f"out={self.out}"]


def call(arguments: list[str]) -> Ended:
    """Call the command line in this process."""
    from vitask.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture
def cli() -> Callable[..., Ended]:
    """`cli("train", "stage=ep")`: the command line in this process."""
    return lambda *arguments: call(list(arguments))


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """A folder of small images of three classes, as `data=image_folder` takes it."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data") / "shapes"
    for split, count in COUNTS.items():
        for name, where in CLASSES.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (8, 8), dtype=np.uint8)
                pixels[where] += 180
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def small(shapes, tmp_path_factory) -> tuple[str, ...]:
    """Overrides of a run of seconds: 24 training images, 3 steps of the VLM, 1 of the TSM."""
    return (
        "data=image_folder",
        f"data.root={shapes}",
        "data.modality=shape",
        f"cache={tmp_path_factory.mktemp('cache')}",
        "optim.epochs=1",
        "optim.batch_size=8",
        "tsm.optim.epochs=1",
        "logger.every=1",
        "launch.device=cpu",
    )


@pytest.fixture(scope="session")
def pipeline(small, tmp_path_factory) -> Pipeline:
    """tsm, vanilla, ep and crt, trained once; tests read it and leave it as it is."""
    made = Pipeline(tmp_path_factory.mktemp("runs"), (*small, "data.label_noise=0.25"))
    ended = call(["train", "stage=all", *made.arguments])
    assert ended.code == 0, ended
    return made


@pytest.fixture
def own_pipeline(pipeline, tmp_path) -> Pipeline:
    """A copy of the pipeline, not evaluated yet, that a test may change."""
    shutil.copytree(pipeline.out, tmp_path / "runs", ignore=shutil.ignore_patterns("eval"))
    return Pipeline(tmp_path / "runs", pipeline.overrides)


@pytest.fixture(scope="session")
def medmnist_root(tmp_path_factory) -> Path:
    """MedMNIST files with the true keys, channels and labels of each set and generated pixels."""
    import numpy as np
    from medmnist import INFO

    root = tmp_path_factory.mktemp("medmnist")
    rng = np.random.default_rng(0)
    for name, info in INFO.items():
        if "3d" in name:
            continue
        arrays, classes = {}, len(info["label"])
        for split in ("train", "val", "test"):
            shape = (ROWS, 28, 28, 3) if info["n_channels"] == 3 else (ROWS, 28, 28)
            labels = (np.arange(ROWS) % classes).astype(np.uint8)[:, None]
            if info["task"].startswith("multi-label"):
                labels = np.eye(classes, dtype=np.uint8)[labels[:, 0]]
                labels[-1] = 0
            arrays |= {f"{split}_images": rng.integers(256, size=shape, dtype=np.uint8), f"{split}_labels": labels}
        np.savez_compressed(root / f"{name}.npz", **arrays)
    return root
