"""Tiny VLMs with random weights; `tiny.py` says how they are made."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)
