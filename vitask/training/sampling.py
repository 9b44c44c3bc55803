"""A rank's part of a step, and random states that survive a resume and do not depend on who computes what."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def rank_share(step: Sequence[Any], rank: int, ranks: int) -> Sequence[Any]:
    """Return one rank's part of an optimiser step.

    Parts are consecutive, their sizes differ by one at most, and each sample is in one of them. A step with fewer
    samples than there are ranks is given to every rank whole.

    Example:
        >>> [rank_share("abcde", rank, 2) for rank in range(2)]
        ['ab', 'cde']
    """
    if len(step) < ranks:
        return step
    return step[len(step) * rank // ranks : len(step) * (rank + 1) // ranks]


def random_state() -> dict[str, Any]:
    """Return torch's random states, of the CPU and of this rank's GPU, as plain tensors."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the states of `random_state` back."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed Python, NumPy and torch from a key for the time of a block, then put their states back.

    Random augmentation inside the block is a pure function of the key, for one (seed, epoch, sample), whatever worker
    process runs it.
    """
    python, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    word = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)  # noqa: NPY002
    torch.default_generator.manual_seed(word)  # torch.manual_seed would queue calls for devices that never start
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
