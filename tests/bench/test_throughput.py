"""Batches that grow until memory is full, with a memory that a test can fill."""

from __future__ import annotations

import pytest
import torch

from vitask.bench import throughput
from vitask.bench.measure import Setting
from vitask.bench.report import report
from vitask.bench.sizes import SIZES
from vitask.bench.throughput import ROWS, matmul_rate, measure_throughput

from .conftest import CPU

SETTING = Setting(CPU, half=False, repeats=1, warmup=0)


@pytest.fixture(scope="module")
def found(tiny):
    """Batches of the packed step stop at 2, those of the others at the limit."""
    measure = throughput._measured

    def limited(models, size, seed, setting, key, batch_size):
        if key == ROWS[-1] and batch_size > 2:
            raise torch.OutOfMemoryError("full")
        return measure(models, size, seed, setting, key, batch_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "_measured", limited)
        return measure_throughput(tiny.models, SIZES["tiny"], 0, SETTING, largest=4, side=64)


def test_batches_double_until_memory_is_full(found):
    tried = [(row["name"], row["batch_size"]) for row in found["rows"]]
    assert tried == [(name, size) for name in ROWS[:2] for size in (1, 2, 4)] + [(ROWS[2], 1), (ROWS[2], 2)]
    assert found["largest"] == {ROWS[0]: 4, ROWS[1]: 4, ROWS[2]: 2}


def test_rates_follow_from_the_seconds(found):
    row = found["rows"][2]
    assert row["samples_per_second"] == row["batch_size"] / row["seconds"]
    assert row["utilisation"] == row["flops"] / row["seconds"] / found["matmul_flops_per_second"]
    size = SIZES["tiny"]
    longest = 4 + size.image_tokens + size.instruction + 3 + max(size.lengths)
    tokens = row["tokens_per_second"] * row["seconds"] / row["batch_size"]
    assert longest - max(size.lengths) < round(tokens) <= longest


def test_the_report_marks_the_largest_batch(found, measured):
    text = report({**measured.result, "throughput": found})
    assert f"| {ROWS[2]} (largest) " in text
    assert "Matrix product: " in text


def test_the_matrix_rate_is_positive():
    assert matmul_rate(SETTING, 32) > 0
