"""Greedy generation against the untouched model's own, and against one full forward pass a token."""

from __future__ import annotations

import pytest
import torch

from vitask.vlm.generation import cache_arguments, generate
from vitask.vlm.inputs import Placement
from vitask.vlm.model import ExemplarVLM

from .batches import all_logits, hub_inputs, make_vlm, plain
from .zoo import ZOO

LENGTH = 6
NOTHING = [()] * 3


def cut(rows: list[list[int]], end: int) -> list[list[int]]:
    return [row[: row.index(end)] if end in row else row for row in rows]


def ask(species, vlm, name, end):
    batch = plain(species, vlm, [name], NOTHING, labels=(), left=True)
    options = {"end_id": end, "pad_id": species.prompter.pad_id}
    return generate(vlm, batch, name, max_new_tokens=LENGTH, **options)


def test_without_exemplar_it_is_the_untouched_models_own(species):
    vlm, model = ExemplarVLM(species.model(), species.family).eval(), species.model()
    inputs = hub_inputs(species, [None] * 3, left=True)

    def own(end):
        out = model.generate(
            **inputs, max_new_tokens=LENGTH, do_sample=False, eos_token_id=end, pad_token_id=species.prompter.pad_id
        )
        return cut(out[:, inputs["input_ids"].shape[1] :].tolist(), end)

    whole = own(species.prompter.end_id)
    assert len({tuple(row) for row in whole}) > 1
    assert len(set(whole[0])) > 1
    assert ask(species, vlm, "vanilla", species.prompter.end_id) == whole
    end = whole[0][2]
    assert ask(species, vlm, "vanilla", end) == own(end)


@pytest.mark.parametrize("position", ["after_image", "before_assistant", "replace_image"])
def test_with_exemplar_it_is_a_forward_pass_a_token(species, position):
    vlm = make_vlm(species, Placement(position, 2))
    answers = [[] for _ in range(3)]
    for _ in range(LENGTH):
        batch = plain(species, vlm, ["exemplar"], answers, labels=())
        logits = all_logits(vlm, batch, "exemplar")
        last = batch["branches"]["exemplar"]["attention_mask"].sum(-1) - 1
        for answer, token in zip(answers, logits[range(3), last].argmax(-1).tolist(), strict=True):
            answer.append(token)
    for end in (-1, answers[0][2]):
        assert ask(species, vlm, "exemplar", end) == cut(answers, end)


def test_both_names_of_the_cache_are_known():
    class Old(torch.nn.Module):
        config = ZOO["llava"].model().config.text_config

        def forward(self, past_key_values=None):
            pass

    assert cache_arguments(Old()).keys() == {"past_key_values", "use_cache"}
