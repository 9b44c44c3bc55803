"""Exactly what trains, by name."""

from __future__ import annotations

import re

import pytest

from vitask.vlm.adapt import assert_trainable
from vitask.vlm.inputs import Placement

from .batches import distance, make_vlm, outcome, packed, plain

PLACEMENT = Placement("after_image", 1)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def trainable(vlm) -> set[str]:
    """Names of what trains, as in the untouched model."""
    names = {name for name, parameter in vlm.named_parameters() if parameter.requires_grad}
    return {
        name.removeprefix("vlm.base_model.model.").replace("modules_to_save.default.", "").replace(".default", "")
        for name in names
    }


def expected(species, tower: bool, projector: bool) -> set[str]:
    names = {name for name, _ in species.model().named_parameters()}
    inner = {name for name in names if name.startswith(species.projectors)}
    outer = {name for name in names if name.startswith(species.tower)} - inner
    decoder = f"{species.family.language_model}.layers."
    adapted = {name.removesuffix(".weight") for name in names if name.startswith(decoder)}
    assert inner
    assert outer
    return {
        *(f"{name}.lora_{side}.weight" for name in adapted if name.endswith(TARGETS) for side in "AB"),
        *(f"connector.{name}" for name, _ in make_vlm(species, PLACEMENT).connector.named_parameters()),
        *(outer if tower else ()),
        *(inner if projector else ()),
    }


@pytest.mark.parametrize("tower", [False, True])
@pytest.mark.parametrize("projector", [False, True])
def test_what_trains(species, tower, projector):
    vlm = make_vlm(species, PLACEMENT, train_tower=tower, train_projector=projector)
    assert trainable(vlm) == expected(species, tower, projector)
    assert_trainable(vlm, connector=True, tower=tower, projector=projector)


def test_gradients_reach_tower_and_projector_and_agree(species):
    vlm = make_vlm(species, PLACEMENT, train_tower=True, train_projector=True)
    found, expected = (outcome(species, vlm, form(species, vlm)) for form in (packed, plain))
    copies = {name: value for name, value in found.items() if ".modules_to_save." in name}
    inner = {name for name in copies if any(f".{path}." in name for path in species.family.projector)}
    first = {name for name in copies.keys() - inner if re.search(r"\.(layers?|blocks)\.0\.", name)}
    assert inner
    assert first
    for name in inner | first:
        if name.endswith("weight"):
            assert copies[name].abs().max() > 0, name
            assert distance(expected[name], copies[name]) < 1e-4, name


def test_frozen_modules_stay_in_evaluation_mode_around_what_trains(species):
    vlm = make_vlm(species, PLACEMENT, train_projector=True).train()
    for module in (part for whole in vlm.image_modules for part in whole.modules()):
        if parameters := list(module.parameters()):
            assert module.training == any(p.requires_grad for p in parameters)
