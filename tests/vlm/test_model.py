"""The wrapper against the untouched Hugging Face model, and every branch against one made by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForImageTextToText

from vitask.vlm.adapt import checkpoint_activations
from vitask.vlm.connector import Connector
from vitask.vlm.families import InternVL
from vitask.vlm.inputs import POSITIONS, Placement, make_branch, stack_images
from vitask.vlm.load import TINY_FOLDER, load_pretrained
from vitask.vlm.model import ExemplarVLM

from .tiny import (
    EXEMPLAR_DIM,
    INSTRUCTIONS,
    WIDTH,
    full_logits,
    make_batch,
    make_exemplars,
    make_hf,
    make_prompts,
    make_vlm,
    picture,
    randomise,
    tiny_processor,
    tiny_prompter,
)


def conversation(instruction: str, answer: str, image) -> list[dict]:
    return [
        {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": instruction}]},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]


@torch.no_grad()
def assert_same_as_hugging_face(vlm: ExemplarVLM, reference: torch.nn.Module) -> None:
    """All logits of a ragged batch bit for bit, from the processor's own tensors; response logits as positions say."""
    answers = ("one", "a longer answer", "two, three")
    processor = tiny_processor()
    texts = [
        processor.apply_chat_template(conversation(INSTRUCTIONS[i], answer, None), tokenize=False)
        for i, answer in enumerate(answers)
    ]
    inputs = processor(
        images=[picture(i) for i in range(3)], text=texts, padding=True, padding_side="right", return_tensors="pt"
    )
    expected = reference(**inputs).logits

    batch = make_batch(vlm, ["vanilla"], answers)
    branch = batch["branches"]["vanilla"]
    assert torch.equal(batch["images"]["pixel_values"], inputs["pixel_values"])
    theirs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    positions = torch.arange(theirs["input_ids"].shape[1]).expand(1, 3, -1)
    ours = {**batch, "branches": {"vanilla": {**branch, **theirs, "position_ids": positions}}}
    assert torch.equal(full_logits(vlm, ours, "vanilla"), expected)

    response = vlm(batch)["vanilla"]
    for row, answer in enumerate(answers):
        count = len(tiny_prompter().response(answer))
        prefix = len(torch.cat([inputs["input_ids"][row][inputs["attention_mask"][row] == 1]])) - count - 1
        torch.testing.assert_close(
            response[row, :count], expected[row, prefix - 1 : prefix - 1 + count], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("text", ["qwen2", "llama"])
def test_without_exemplar_the_wrapper_is_the_hugging_face_model_bit_for_bit(text):
    assert_same_as_hugging_face(make_vlm(model=make_hf(text), lora=False), make_hf(text))


def test_shipped_model_in_the_wrapper_is_the_hugging_face_model_bit_for_bit():
    model, _ = load_pretrained("tiny")
    width = model.get_input_embeddings().embedding_dim
    vlm = ExemplarVLM(model, InternVL(), Connector(EXEMPLAR_DIM, width), Placement("after_image", 1)).eval()
    assert_same_as_hugging_face(vlm, AutoModelForImageTextToText.from_pretrained(TINY_FOLDER).eval())


def test_fresh_lora_changes_no_logit():
    vlm = make_vlm()
    randomise((p for name, p in vlm.named_parameters() if "lora_B" in name), scale=0.0)
    assert_same_as_hugging_face(vlm, make_hf())


def test_disabled_adapter_gives_the_untouched_model_back():
    vlm = make_vlm(train_tower=True, train_projector=True)
    randomise(p for p in vlm.vlm.parameters() if p.requires_grad)
    with pytest.raises(AssertionError):
        assert_same_as_hugging_face(vlm, make_hf())
    with vlm.vlm.disable_adapter():
        assert_same_as_hugging_face(vlm, make_hf())


def test_dropout_of_a_frozen_tower_stays_off_in_training_mode():
    vlm = make_vlm().train()
    assert vlm.vlm.training
    assert vlm.connector.training
    randomise((p for name, p in vlm.named_parameters() if "lora_B" in name), scale=0.0)
    assert_same_as_hugging_face(vlm, make_hf())


def test_trained_tower_alone_is_put_in_training_mode():
    vlm = make_vlm(train_tower=True).train()
    tower, projector = vlm.image_modules
    assert tower.modules_to_save["default"].training
    assert not projector.training
    assert not any(module.training for module in vlm.eval().modules())


@torch.no_grad()
@pytest.mark.parametrize("name", ["vanilla", "exemplar", "negative"])
@pytest.mark.parametrize("left", [False, True])
def test_padding_and_neighbours_change_no_row(name, left):
    vlm = make_vlm()
    together = vlm(make_batch(vlm, ["vanilla", "exemplar", "negative"], left=left))[name]
    prompter, prompts = tiny_prompter(), make_prompts()
    image = {"negative": (1, 2, 0)}.get(name, range(3))
    for row, answer in enumerate(("one", "a longer answer", "two, three")):
        prompt, response = prompts[image[row]], prompter.response(answer)
        branch = make_branch([prompt], [response], vlm.placement if name == "exemplar" else None, [0], prompter)
        exemplar = make_exemplars(vlm, 3)[row : row + 1]
        alone = vlm({"branches": {name: branch}, "exemplars": exemplar, **stack_images([prompt], prompter)})[name]
        torch.testing.assert_close(together[row, : len(response)], alone[0], rtol=1e-4, atol=1e-4)


def reference_embeddings(model, prompt, response, exemplar, position):
    """Concatenate what the sequence should hold, part by part."""
    embed = model.get_input_embeddings()
    image = model.get_image_features(pixel_values=prompt.images["pixel_values"]).pooler_output[0]
    holder = tiny_processor().image_token_id
    start = embed(torch.tensor(prompt.head[: prompt.head.index(holder)]))
    body, tag, answer = (embed(torch.tensor(ids)) for ids in (prompt.body, prompt.tag, response))
    parts = {
        "after_image": [start, image, exemplar, body, tag, answer],
        "before_assistant": [start, image, body, exemplar, tag, answer],
        "replace_image": [start, exemplar, body, tag, answer],
    }
    return torch.cat(parts[position])


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("tokens", [1, 3])
def test_exemplar_branch_and_its_gradients_equal_a_concatenation_by_hand(position, tokens):
    vlm = make_vlm(position, tokens)
    vlm.train()
    answers = ("one", "a longer answer", "two, three")
    batch = make_batch(vlm, ["exemplar"], answers)
    logits = vlm(batch)["exemplar"]
    responses = [tiny_prompter().response(answer) for answer in answers]
    weights = [
        torch.randn(len(r), logits.shape[-1], generator=torch.Generator().manual_seed(len(r))) for r in responses
    ]
    sum((logits[row, : len(w)] * w).sum() for row, w in enumerate(weights)).backward()
    gradients = {name: p.grad.clone() for name, p in vlm.named_parameters() if p.grad is not None}
    assert gradients.keys() == {name for name, p in vlm.named_parameters() if p.requires_grad}
    assert any(name.startswith("connector.") for name in gradients)
    assert all(name.startswith("connector.") or ".lora_" in name for name in gradients)

    vlm.zero_grad()
    for row, (prompt, response) in enumerate(zip(make_prompts(), responses, strict=True)):
        exemplar = vlm.connector(batch["exemplars"])[row]
        embeddings = reference_embeddings(vlm.base, prompt, response, exemplar, position)
        whole = vlm.vlm(inputs_embeds=embeddings[None]).logits[0]
        expected = whole[-len(response) - 1 : -1]
        torch.testing.assert_close(logits[row, : len(response)], expected, rtol=1e-4, atol=1e-4)
        (expected * weights[row]).sum().backward()
    for name, parameter in vlm.named_parameters():
        if name in gradients:
            scale = parameter.grad.abs().max()
            assert (gradients[name] - parameter.grad).abs().max() <= 1e-4 * scale, name


@torch.no_grad()
@pytest.mark.parametrize("position", POSITIONS)
def test_the_exemplar_reaches_its_own_row_alone(position):
    vlm = make_vlm(position, 2)
    batch = make_batch(vlm, ["vanilla", "exemplar"])
    before = vlm(batch)
    batch["exemplars"][1] += torch.arange(EXEMPLAR_DIM).float()
    after = vlm(batch)
    assert torch.equal(before["vanilla"], after["vanilla"])
    assert torch.equal(before["exemplar"][[0, 2]], after["exemplar"][[0, 2]])
    assert (before["exemplar"][1] - after["exemplar"][1]).abs().max() > 1e-2


@torch.no_grad()
def test_replacing_exemplar_uses_no_image_and_the_others_do():
    for position in POSITIONS:
        vlm = make_vlm(position)
        batch = make_batch(vlm, ["exemplar"])
        before = vlm(batch)["exemplar"]
        batch["images"] = {"pixel_values": batch["images"]["pixel_values"].flip(0)}
        change = (vlm(batch)["exemplar"] - before).abs().max()
        assert change == 0 if position == "replace_image" else change > 1e-2


@torch.no_grad()
def test_negative_branch_is_the_other_image_with_the_own_response():
    vlm = make_vlm()
    same = make_batch(vlm, ["vanilla", "negative"], negatives=(0, 1, 2))
    logits = vlm(same)
    assert torch.equal(logits["vanilla"], logits["negative"])
    logits = vlm(make_batch(vlm, ["vanilla", "negative"]))
    assert (logits["vanilla"] - logits["negative"]).abs().amax((1, 2)).min() > 1e-2


def test_images_are_encoded_once_for_all_branches_and_without_a_graph(monkeypatch):
    vlm = make_vlm()
    encode, seen = InternVL.encode_images, []
    monkeypatch.setattr(InternVL, "encode_images", lambda *args: seen.append(encode(*args)) or seen[-1])
    vlm(make_batch(vlm, ["vanilla", "exemplar", "negative"]))
    assert len(seen) == 1
    assert not seen[0].requires_grad
    vlm = make_vlm(train_projector=True)
    vlm(make_batch(vlm, ["vanilla"]))
    assert seen[1].requires_grad


@pytest.mark.parametrize("which", ["train_tower", "train_projector"])
def test_copies_of_image_modules_train_and_their_originals_do_not(which):
    vlm = make_vlm(**{which: True}).train()
    vlm(make_batch(vlm, ["vanilla"]))["vanilla"].square().sum().backward()
    path = InternVL.vision_tower if which == "train_tower" else InternVL.projector[0]
    graded = [name for name, p in vlm.named_parameters() if p.grad is not None and ".lora_" not in name]
    assert graded
    assert all(f"{path}.modules_to_save.default." in name for name in graded)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        vlm = make_vlm().train()
        decoder = vlm.base.get_submodule(InternVL.language_model)
        if checkpointing:
            checkpoint_activations(vlm.base, vlm.family)
        assert decoder.layers[0].gradient_checkpointing == checkpointing
        batch = make_batch(vlm, ["vanilla", "exemplar"])
        sum(logits.square().sum() for logits in vlm(batch).values()).backward()
        gradients.append({name: p.grad for name, p in vlm.named_parameters() if p.requires_grad})
    assert all(gradient is not None for gradient in gradients[1].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max()))


def test_half_precision_model_takes_a_float32_connector():
    vlm = make_vlm(model=make_hf().bfloat16())
    batch = make_batch(vlm, ["exemplar"])
    logits = vlm(batch)["exemplar"]
    assert logits.dtype == torch.bfloat16
    logits.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in vlm.connector.parameters())


def test_connector_and_placement_come_together():
    for options in ({"connector": Connector(EXEMPLAR_DIM, WIDTH)}, {"placement": Placement("after_image", 1)}):
        with pytest.raises(ValueError, match="come together"):
            ExemplarVLM(copy.copy(make_hf()), InternVL(), **options)


@pytest.mark.parametrize(("kind", "layers"), [("mlp", 3), ("linear", 2)])
def test_connector_maps_each_token_by_itself(kind, layers):
    connector = Connector(EXEMPLAR_DIM, WIDTH, kind)
    exemplars = torch.randn(2, 3, EXEMPLAR_DIM)
    out = connector(exemplars)
    assert out.shape == (2, 3, WIDTH)
    torch.testing.assert_close(out[1, 2], connector(exemplars[1:, 2:])[0, 0])
    assert sum(p.ndim == 2 for p in connector.parameters()) == layers - 1
    with pytest.raises(ValueError, match="mlp, linear"):
        Connector(EXEMPLAR_DIM, WIDTH, "conv")
