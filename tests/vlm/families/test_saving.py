"""What is saved and loaded again, by vitask and by peft alone."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel

from vitask.vlm.inputs import Placement
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.saving import ADAPTER, load_weights, save_vlm

from .batches import all_logits, make_vlm, plain

PLACEMENT = Placement("after_image", 2)
ALL = {"train_tower": True, "train_projector": True}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft asks for it by its old name
def test_saved_and_loaded_again_it_says_the_same(species, tmp_path):
    vlm = make_vlm(species, PLACEMENT, **ALL)
    generator = torch.Generator().manual_seed(11)
    for parameter in vlm.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    save_vlm(vlm, tmp_path / "vlm", {})

    other = make_vlm(species, PLACEMENT, **ALL)
    batch = plain(species, vlm, ["vanilla", "exemplar"], labels=())
    expected = {name: all_logits(vlm, batch, name) for name in batch["branches"]}
    assert not torch.allclose(all_logits(other, batch, "exemplar"), expected["exemplar"])
    load_weights(other, tmp_path / "vlm")
    assert all(torch.equal(all_logits(other, batch, name), expected[name]) for name in expected)

    alone = PeftModel.from_pretrained(species.model(), tmp_path / "vlm" / ADAPTER)
    alone = ExemplarVLM(alone, species.family).eval()
    assert torch.equal(all_logits(alone, batch, "vanilla"), expected["vanilla"])
