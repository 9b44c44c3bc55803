"""FLOPs and bytes against figures derived by hand; the true size on shapes alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vitask.bench.counting import count
from vitask.bench.material import Batches, make_material
from vitask.bench.measure import Setting, ratio
from vitask.bench.sizes import SIZES, Models
from vitask.bench.steps import PACKED, PLAIN, STOCK, training_steps
from vitask.bench.training import count_step

from .conftest import CPU

META = torch.device("meta")


@pytest.mark.parametrize("device", [CPU, META])
def test_a_linear_layer_costs_two_flops_a_weight_and_keeps_its_input(device):
    weight = torch.randn(5, 7, requires_grad=True, device=device)
    inputs = torch.randn(3, 7, device=device, requires_grad=True)
    flops, saved = count(lambda: functional.linear(inputs * 1.0, weight).sum(), [weight], device)
    assert flops == 3 * 2 * 3 * 5 * 7  # forward, gradient of the input, gradient of the weight
    assert saved == 3 * 7 * 4


@pytest.mark.parametrize("device", [CPU, META])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_costs_two_products_forward_and_five_backward(device, groups):
    query = torch.randn(2, 4, 8, 16, device=device, requires_grad=True)
    key, value = (torch.randn(2, 4 // groups, 8, 16, device=device, requires_grad=True) for _ in range(2))
    options = {"is_causal": True, "enable_gqa": groups > 1}
    flops, _ = count(lambda: functional.scaled_dot_product_attention(query, key, value, **options).sum(), [], device)
    assert flops == 7 * 2 * 2 * 4 * 8 * 8 * 16


def test_a_storage_is_counted_once_and_weights_are_not():
    weight = torch.randn(4, requires_grad=True)

    def loss() -> torch.Tensor:
        hidden = weight * 2.0
        return (hidden.exp() + hidden.view(2, 2).sin().flatten() + hidden.cos()).sum()

    assert count(loss, [weight], CPU)[1] == 2 * 16  # hidden (for sin and cos) and the result of exp


def test_a_ratio_is_taken_round_by_round():
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert ratio([], []) is None


def test_internvl2_2b_has_its_parameters():
    models = Models(SIZES["internvl2_2b"], META, torch.bfloat16)
    frozen = sum(p.numel() for name, p in models.adapted.named_parameters() if ".lora_" not in name)
    assert frozen == pytest.approx(2.206e9, rel=0.005)
    assert SIZES["internvl2_2b"].image_tokens == SIZES["small"].image_tokens == 256


@pytest.mark.slow
def test_the_small_size_has_the_proportions_of_the_true_one():
    wanted = (PLAIN, STOCK, f"{PACKED}, stage 2", f"{PACKED}, live tower, stage 2")
    small, true = flops("small", wanted), flops("internvl2_2b", wanted)
    for key in wanted:
        assert small[key] / small[PLAIN] == pytest.approx(true[key] / true[PLAIN], rel=0.03), key


def flops(name: str, keys: tuple[str, ...]) -> dict[str, int]:
    """Count some steps of two samples."""
    size = SIZES[name]
    dtype = getattr(torch, size.dtype)
    models, setting = Models(size, META, dtype), Setting(META, dtype == torch.bfloat16, 1, 0)
    batches = Batches(make_material(size, 2, 0, META), models.vlm())
    steps = [step for step in training_steps(models, batches) if step.key in keys]
    return {step.key: count_step(models, step.prepare(), setting)[0] for step in steps}
