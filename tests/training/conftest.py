"""What every training test needs: one thread, and an accelerator that no earlier test has configured."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def fresh_accelerate():
    """Forget the process-wide state of earlier accelerators, before and after."""

    def reset():
        AcceleratorState._reset_state(True)
        GradientState._reset_state()

    reset()
    yield
    reset()


@pytest.fixture
def accelerator(fresh_accelerate) -> Accelerator:
    return Accelerator(cpu=True)
