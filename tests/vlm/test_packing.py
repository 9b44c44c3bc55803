"""A packed batch: what is in it, how large it is, and that it computes what the plain form computes."""

from __future__ import annotations

import pytest
import torch

from vitask.vlm import packed as packed_form
from vitask.vlm.inputs import POSITIONS, Placement, build_prefix
from vitask.vlm.packed import why_not_packed
from vitask.vlm.packing import Continuation, pack

from .tiny import INSTRUCTIONS, make_batch, make_hf, make_packed, make_prompts, make_vlm, picture, tiny_prompter

ANSWERS = ("one", "a longer answer", "two, three")
NAMES = ("vanilla", "exemplar", "negative")
LABELS = ("one", "two, three", "a longer answer", "two")


def lengths() -> list[int]:
    return [len(tiny_prompter().response(answer)) for answer in ANSWERS]


@torch.no_grad()
def largest_difference(vlm, negatives=(1, 2, 0)) -> float:
    """Between the forms, over every branch's response logits and the label scores."""
    plain = vlm(make_batch(vlm, NAMES, negatives=negatives, labels=LABELS))
    packed = vlm(make_packed(vlm, NAMES, negatives=negatives, labels=LABELS))
    assert packed.keys() == plain.keys()
    rows = [
        (packed[name][row, :count] - plain[name][row, :count]).abs().max().item()
        for name in NAMES
        for row, count in enumerate(lengths())
    ]
    return max(*rows, (packed["labels"] - plain["labels"]).abs().max().item())


@pytest.mark.parametrize("negatives", [(1, 2, 0), (1, 0, 0), (2, 2, 2), (0, 1, 2)])
@pytest.mark.parametrize("position", POSITIONS)
def test_packed_logits_are_the_plain_ones_however_many_negatives_meet_at_an_image(position, negatives):
    assert largest_difference(make_vlm(position, 2), negatives) < 1e-4


def test_eager_attention_gets_an_additive_mask():
    model = make_hf()
    model.set_attn_implementation("eager")
    assert why_not_packed(model) is None
    assert largest_difference(make_vlm(model=model)) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_forms_agree_under_bfloat16_autocast(attention):
    model = make_hf()
    model.set_attn_implementation(attention)
    vlm = make_vlm(model=model)
    with torch.autocast("cpu", torch.bfloat16):
        plain, packed = vlm(make_batch(vlm, NAMES)), vlm(make_packed(vlm, NAMES))
    for name in NAMES:
        assert packed[name].dtype == torch.bfloat16
        for row, count in enumerate(lengths()):
            expected = plain[name][row, :count].float()
            assert (packed[name][row, :count].float() - expected).abs().max() < 0.03 * expected.abs().max()


def causal(segments, ancestors):
    mask = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    return mask.expand(len(segments), 1, -1, -1)


def test_a_plain_causal_mask_is_noticed(monkeypatch):
    monkeypatch.setattr(packed_form, "tree_mask", causal)
    assert largest_difference(make_vlm()) > 1e-2


def test_running_positions_are_noticed(monkeypatch):
    pack_rows = packed_form.packed_hidden

    def run_on(vlm, batch):
        positions = batch["packed"]["position_ids"]
        batch["packed"]["position_ids"] = torch.arange(positions.shape[-1]).expand_as(positions)
        return pack_rows(vlm, batch)

    monkeypatch.setattr(packed_form, "packed_hidden", run_on)
    assert largest_difference(make_vlm()) > 1e-2


def test_a_boolean_mask_under_eager_attention_is_noticed(monkeypatch):
    model = make_hf()
    model.set_attn_implementation("eager")
    monkeypatch.setattr(packed_form, "additive", lambda mask, dtype: mask)
    assert largest_difference(make_vlm(model=model)) > 1e-2


def test_what_cannot_be_packed_is_named():
    model = make_hf()
    model.config.get_text_config()._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in why_not_packed(model)
    model.config.get_text_config()._attn_implementation = "sdpa"
    model.config.get_text_config().layer_types = ["full_attention", "sliding_attention"]
    assert "sliding_attention" in why_not_packed(model)
    model.config.get_text_config().layer_types, model.config.get_text_config().sliding_window = None, 64
    assert "sliding windows (64 tokens)" in why_not_packed(model)


def packed_tokens(position: str) -> tuple[int, int]:
    """Tokens of a packed row with two negatives, and of the four sequences in it."""
    prompter = tiny_prompter()
    prompt = prompter.prompt(picture(0), INSTRUCTIONS[0])
    responses = [prompter.response(answer) for answer in ANSWERS]
    branches = {
        "vanilla": [Continuation(0, responses[0])],
        "exemplar": [Continuation(0, responses[0], exemplar=True)],
        "negative": [Continuation(0, responses[1]), Continuation(0, responses[2])],
    }
    placement = Placement(position, 1)
    packed = pack([prompt], prompter, placement, branches)
    plain = len(build_prefix(prompt, None, prompter.image_token_id).keys)
    return packed["input_ids"].shape[1], 4 * plain + 1 + sum(map(len, responses)) + len(responses[0])


def test_a_row_holds_what_its_sequences_share_once():
    prompt, counts = tiny_prompter().prompt(picture(0), INSTRUCTIONS[0]), lengths()
    answers = sum(count - 1 for count in counts)
    tokens = {position: packed_tokens(position)[0] for position in ("after_image", "before_assistant")}
    head, body, tag = len(prompt.head), len(prompt.body), len(prompt.tag)
    assert tokens["before_assistant"] == head + body + (tag + answers) + (1 + tag + counts[0] - 1)
    assert tokens["after_image"] == head + (body + tag + answers) + (1 + body + tag + counts[0] - 1)
    assert tokens["after_image"] < packed_tokens("after_image")[1] / 2


def test_logits_are_computed_where_an_answer_is_predicted_and_nowhere_else():
    vlm, seen = make_vlm(), []
    head = vlm.head
    vlm.head = lambda hidden: seen.append(hidden.shape[:-1]) or head(hidden)
    batch = make_packed(vlm, NAMES, labels=LABELS)
    vlm(batch)
    assert seen == [(len(batch["packed"]["heads"]),)]
    assert len(batch["packed"]["heads"]) < 3 * sum(map(len, map(tiny_prompter().response, LABELS))) + sum(lengths())


def test_a_label_set_may_differ_from_sample_to_sample():
    vlm, prompter, prompts = make_vlm(), tiny_prompter(), make_prompts(2)
    texts = [("one", "two", "two, three"), ("a longer answer",)]
    sets = [[Continuation(row, prompter.response(text)) for text in members] for row, members in enumerate(texts)]
    whole = vlm(make_packed(vlm, ["vanilla"], labels=LABELS))["labels"]
    batch = make_packed(vlm, ["vanilla"])
    scores = vlm(
        {
            **batch,
            "packed": pack(
                make_prompts(), prompter, vlm.placement, {}, [*sets, [Continuation(2, prompter.response("one"))]]
            ),
        }
    )["labels"]
    expected = [[whole[0, 0], whole[0, 3], whole[0, 1]], [whole[1, 2]]]
    for row, values in enumerate(expected):
        torch.testing.assert_close(scores[row, : len(values)], torch.stack(values), rtol=1e-4, atol=1e-4)
    assert scores[1, 1:].tolist() == [-torch.inf, -torch.inf]
    assert len(prompts) == 2


def test_both_forms_give_the_same_gradients():
    gradients = []
    for make in (make_batch, make_packed):
        vlm = make_vlm("after_image", 2).train()
        outputs = vlm(make(vlm, NAMES, labels=LABELS))
        generator = torch.Generator().manual_seed(0)
        loss = (outputs["labels"] * torch.randn(outputs["labels"].shape, generator=generator)).sum()
        for name in NAMES:
            for row, count in enumerate(lengths()):
                logits = outputs[name][row, :count]
                loss = loss + (logits * torch.randn(logits.shape, generator=generator)).sum()
        loss.backward()
        gradients.append({name: p.grad for name, p in vlm.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        difference = (gradients[1][name] - gradient).abs().max()
        assert difference <= 1e-4 * gradient.abs().max(), name
