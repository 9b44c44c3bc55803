"""Models that are not there, are no models, or do not take what they are given."""

from __future__ import annotations

import pytest

from .case import bad, check, write
from .material import TRAIN, empty

CASES = {
    "unknown TSM": bad(
        TRAIN + "stage=tsm | tsm.name=resnet_nine", 2, "unknown timm model 'resnet_nine'", "Did you mean"
    ),
    "argument that a TSM lacks": bad(TRAIN + "stage=tsm | tsm.model_args.depht=3", 2, "tsm.model_args"),
    "TSM weights that are not there": bad(
        TRAIN + "stage=tsm | tsm.checkpoint={tmp}/no.safetensors", 1, "no.safetensors"
    ),
    "TSM weights that are none": bad(
        TRAIN + "stage=tsm | tsm.checkpoint={tmp}/w.safetensors",
        1,
        "w.safetensors",
        spoil=write("w.safetensors", b"12345678"),
    ),
    "unknown augmentation": bad(TRAIN + "stage=tsm | tsm.augment.flip=1", 2, "unknown augmentation 'flip'", "known: "),
    "unknown input option": bad(TRAIN + "stage=tsm | tsm.input.sise=3", 2, "unknown input setting 'sise'", "known: "),
    "no such layer": bad(TRAIN + "stage=vanilla | lora.targets=[q_porj]", 2, "lora.targets", "q_porj"),
    "no such VLM": bad(TRAIN + "stage=vanilla | vlm.path=no-such/model", 1, "no-such/model"),
    "a VLM that is a file": bad(
        TRAIN + "stage=vanilla | vlm.path={tmp}/f", 2, "vlm.path: there is no folder", "/f", spoil=write("f", "x")
    ),
    "a VLM of an empty folder": bad(
        TRAIN + "stage=vanilla | vlm.path={tmp}/m", 2, "vlm.path", "holds no config.json", spoil=empty("m")
    ),
    "a VLM with a damaged config": bad(
        TRAIN + "stage=vanilla | vlm.path={tmp}/m", 1, "/m", spoil=write("m/config.json", "{")
    ),
    "a VLM of an unknown type": bad(
        TRAIN + "stage=vanilla | vlm.path={tmp}/m", 1, "/m", spoil=write("m/config.json", '{"model_type": "nothing"}')
    ),
    "a text model": bad(
        TRAIN + "stage=vanilla | vlm.path={tmp}/m", 1, "/m", spoil=write("m/config.json", '{"model_type": "bert"}')
    ),
    "image option that is none": bad(TRAIN + "stage=vanilla | vlm.image_options.size=huge", 2, "vlm.image_options"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("imported")
def test_a_wrong_model(name, cli, places):
    CASES[name].spoil(places["tmp"])
    check(CASES[name], cli, places["tmp"], **places)
