"""Tiny TSMs, and images to show them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vitask.tsm import TSM

from .tiny import TINY, make_tsm


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=TINY)
def tsm(request) -> TSM:
    return make_tsm(request.param).eval()


@pytest.fixture
def resnet() -> TSM:
    return make_tsm().eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)) for _ in range(7)]
