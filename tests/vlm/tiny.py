"""Tiny VLMs with random weights over the shipped processor, and batches to show them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoProcessor, InternVLConfig, InternVLForConditionalGeneration, LlamaConfig, Qwen2Config

from vitask.vlm.adapt import add_lora
from vitask.vlm.connector import Connector
from vitask.vlm.families import InternVL
from vitask.vlm.inputs import Placement, label_branch, make_branch, stack_images
from vitask.vlm.load import TINY_FOLDER
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.packing import Continuation, pack
from vitask.vlm.prompts import Prompt, Prompter

WIDTH, EXEMPLAR_DIM = 32, 6
INSTRUCTIONS = ("Which is it: one, two?", "Analyze the given image of a very long question.", "Say.")


@cache
def tiny_processor():
    return AutoProcessor.from_pretrained(TINY_FOLDER)


@cache
def tiny_prompter() -> Prompter:
    return Prompter(tiny_processor(), InternVL(), with_token(tiny_processor().image_token_id))


def with_token(image_token_id: int) -> SimpleNamespace:
    """What a prompter reads of a model's configuration."""
    return SimpleNamespace(image_token_id=image_token_id)


def make_hf(text: str = "qwen2", seed: int = 0) -> InternVLForConditionalGeneration:
    """An InternVL with random weights of unit scale, so that what it computes depends on its whole input."""
    processor = tiny_processor()
    texts = {"qwen2": Qwen2Config, "llama": LlamaConfig}
    config = InternVLConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [32, 32],
            "patch_size": [4, 4],
            "hidden_dropout_prob": 0.5,
        },
        text_config=texts[text](
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=len(processor.tokenizer),
            eos_token_id=processor.tokenizer.eos_token_id,
            pad_token_id=processor.tokenizer.pad_token_id,
            tie_word_embeddings=text == "qwen2",
        ),
        image_token_id=processor.image_token_id,
        image_seq_length=16,
        downsample_ratio=0.5,
        tie_word_embeddings=text == "qwen2",
    )
    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config).eval()
    randomise(p for p in model.parameters() if p.ndim > 1)
    return model


def randomise(parameters, seed: int = 1, scale: float = 0.2) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def make_vlm(
    position: str | None = "after_image",
    tokens: int = 1,
    *,
    model: nn.Module | None = None,
    lora: bool = True,
    **options,
) -> ExemplarVLM:
    """A wrapper with LoRA whose B is not 0, and with a connector unless `position` is None."""
    model = model or make_hf()
    if lora:
        model = add_lora(model, InternVL(), rank=4, alpha=8, **options)
        randomise(p for name, p in model.named_parameters() if "lora_" in name)
    if position is None:
        return ExemplarVLM(model, InternVL()).eval()
    torch.manual_seed(3)
    return ExemplarVLM(model, InternVL(), Connector(EXEMPLAR_DIM, WIDTH), Placement(position, tokens)).eval()


def picture(seed: int) -> Image.Image:
    pixels = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.numpy())


def make_prompts(count: int = 3) -> list[Prompt]:
    """Prompts of ragged lengths, each with its own image."""
    return [tiny_prompter().prompt(picture(i), INSTRUCTIONS[i % len(INSTRUCTIONS)]) for i in range(count)]


def make_batch(
    vlm: ExemplarVLM,
    names: Sequence[str],
    answers: Sequence[str] = ("one", "a longer answer", "two, three"),
    negatives: Sequence[int] = (1, 2, 0),
    labels: Sequence[str] = (),
    *,
    left: bool = False,
) -> dict:
    """A plain batch of one row an answer; no answer at all with `None`. With `labels`, a branch that scores them."""
    prompts, prompter = make_prompts(len(answers)), tiny_prompter()
    responses = [() if answer is None else prompter.response(answer) for answer in answers]
    own = range(len(prompts))
    branches = {}
    for name in names:
        rows = negatives if name == "negative" else own
        placement = vlm.placement if name == "exemplar" else None
        branches[name] = make_branch([prompts[i] for i in rows], responses, placement, rows, prompter, left=left)
    if labels:
        branches["labels"] = label_branch(prompts, own, [list(map(prompter.response, labels))] * len(prompts), prompter)
    return {"branches": branches, **shared(vlm, prompts)}


def make_packed(
    vlm: ExemplarVLM,
    names: Sequence[str],
    answers: Sequence[str] = ("one", "a longer answer", "two, three"),
    negatives: Sequence[int] = (1, 2, 0),
    labels: Sequence[str] = (),
) -> dict:
    """The same batch in the packed form."""
    prompts, prompter = make_prompts(len(answers)), tiny_prompter()
    responses = list(map(prompter.response, answers))
    rows = {"negative": negatives}
    branches = {
        name: [
            Continuation(row, response, name == "exemplar")
            for row, response in zip(rows.get(name, range(len(prompts))), responses, strict=True)
        ]
        for name in names
    }
    sets = [[Continuation(row, prompter.response(label)) for label in labels] for row in range(len(prompts))]
    packed = pack(prompts, prompter, vlm.placement, branches, sets if labels else ())
    return {"packed": packed, **shared(vlm, prompts)}


def shared(vlm: ExemplarVLM, prompts: Sequence[Prompt]) -> dict:
    """What both forms of a batch hold."""
    return {"exemplars": make_exemplars(vlm, len(prompts)), **stack_images(prompts, tiny_prompter())}


def make_exemplars(vlm: ExemplarVLM, rows: int) -> Tensor | None:
    if vlm.placement is None:
        return None
    generator = torch.Generator().manual_seed(5)
    exemplars = torch.randn(rows, vlm.placement.tokens, EXEMPLAR_DIM, generator=generator)
    return exemplars.to(next(vlm.connector.parameters()).dtype)


def full_logits(vlm: ExemplarVLM, batch: dict, name: str) -> Tensor:
    """Logits `(B, T, V)` of a branch at every position."""
    branch = batch["branches"][name]
    exemplars = vlm.connector(batch["exemplars"]) if branch["has_exemplar"] else None
    inputs = vlm.decoder_inputs(branch, vlm.image_features(batch), exemplars)
    return vlm.head(vlm.decode(inputs, branch["attention_mask"]))
