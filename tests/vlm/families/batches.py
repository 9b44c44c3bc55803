"""The same batch in the plain and in the packed form, for any species, and the wrapper that computes it."""

from __future__ import annotations

import types
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitask.vlm.adapt import add_lora
from vitask.vlm.connector import Connector
from vitask.vlm.inputs import Placement, label_branch, make_branch, stack_images
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.packing import Continuation, pack
from vitask.vlm.prompts import Prompt

from .zoo import INSTRUCTIONS, SIZES, WIDTH, Species, picture

EXEMPLAR_DIM = 6
ANSWERS = ("one", "a longer one", "two")
NEGATIVES = (1, 0, 0)
LABELS = ("one", "two", "twin")
NAMES = ("vanilla", "exemplar", "negative")


def make_vlm(
    species: Species,
    placement: Placement | None = None,
    *,
    attention: str = "sdpa",
    dtype: torch.dtype = torch.float32,
    **options,
) -> ExemplarVLM:
    """A wrapper whose LoRA and connector already do something."""
    model = add_lora(species.model(attention=attention), species.family, rank=4, alpha=8, **options)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.15 * torch.randn(parameter.shape, generator=generator)
    torch.manual_seed(3)
    connector = Connector(EXEMPLAR_DIM, WIDTH) if placement else None
    vlm = ExemplarVLM(model, species.family, connector, placement).eval().to(dtype)
    return compute_norms_in(dtype, vlm)


def compute_norms_in(dtype: torch.dtype, vlm: ExemplarVLM) -> ExemplarVLM:
    """Let RMS norms compute in float64 too; Hugging Face's go down to float32."""
    for module in vlm.base.modules():
        if dtype == torch.float64 and type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(_norm, module)
    return vlm


def _norm(self: nn.Module, hidden: Tensor) -> Tensor:
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def make_prompts(species: Species) -> list[Prompt]:
    """Prompts of ragged instructions, about images of several sizes."""
    return [
        species.prompter.prompt(picture(i, size), text)
        for i, (size, text) in enumerate(zip(SIZES, INSTRUCTIONS, strict=True))
    ]


def shared(species: Species, vlm: ExemplarVLM, prompts: Sequence[Prompt]) -> dict:
    batch = stack_images(prompts, species.prompter)
    if vlm.placement:
        shape = (len(prompts), vlm.placement.tokens, EXEMPLAR_DIM)
        exemplars = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        batch["exemplars"] = exemplars.to(next(vlm.connector.parameters()).dtype)
    return batch


def plain(
    species: Species,
    vlm: ExemplarVLM,
    names: Sequence[str] = NAMES,
    responses: Sequence[Sequence[int]] | None = None,
    labels: Sequence[str] = LABELS,
    *,
    left: bool = False,
) -> dict:
    prompts, prompter = make_prompts(species), species.prompter
    responses = list(map(prompter.response, ANSWERS)) if responses is None else responses
    branches = {}
    for name in names:
        rows = NEGATIVES if name == "negative" else range(len(prompts))
        placement = vlm.placement if name == "exemplar" else None
        branches[name] = make_branch([prompts[i] for i in rows], responses, placement, rows, prompter, left=left)
    if labels:
        sets = [list(map(prompter.response, labels))] * len(prompts)
        branches["labels"] = label_branch(prompts, range(len(prompts)), sets, prompter)
    return {"branches": branches, **shared(species, vlm, prompts)}


def packed(species: Species, vlm: ExemplarVLM) -> dict:
    prompts, prompter = make_prompts(species), species.prompter
    responses = list(map(prompter.response, ANSWERS))
    rows = {"vanilla": range(3), "exemplar": range(3), "negative": NEGATIVES}
    branches = {
        name: [Continuation(row, r, name == "exemplar") for row, r in zip(rows[name], responses, strict=True)]
        for name in NAMES
    }
    sets = [[Continuation(row, prompter.response(label)) for label in LABELS] for row in range(3)]
    return {"packed": pack(prompts, prompter, vlm.placement, branches, sets), **shared(species, vlm, prompts)}


def outcome(species: Species, vlm: ExemplarVLM, batch: dict) -> dict[str, Tensor]:
    """What a batch gives: the answers' logits and label scores by branch, and the gradient of everything that trains.

    The loss is a fixed random projection of each branch's logits, and of the label scores.
    """
    vlm.zero_grad()
    outputs = dict(vlm(batch))
    lengths = [len(species.prompter.response(answer)) for answer in ANSWERS]
    for name in NAMES:
        outputs[name] = torch.cat([logits[:length] for logits, length in zip(outputs[name], lengths, strict=True)])
    generator = torch.Generator().manual_seed(9)
    losses = [
        (torch.randn(outputs[name].shape, generator=generator).to(outputs[name]) * outputs[name]).mean()
        for name in (*NAMES, "labels")
    ]
    sum(losses).backward()
    found = {name: values.detach() for name, values in outputs.items()}
    return found | {name: p.grad for name, p in vlm.named_parameters() if p.requires_grad}


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((one - other).abs().max() / one.abs().max())


@torch.no_grad()
def all_logits(vlm: ExemplarVLM, batch: dict, name: str) -> Tensor:
    """Logits `(B, T, V)` of a branch at every position."""
    branch = batch["branches"][name]
    exemplars = vlm.connector(batch["exemplars"]) if branch["has_exemplar"] else None
    inputs = vlm.decoder_inputs(branch, vlm.image_features(batch), exemplars)
    return vlm.head(vlm.decode(inputs, branch["attention_mask"]))


def hub_inputs(species: Species, answers: Sequence[str | None], *, left: bool = False, blank: bool = False) -> dict:
    """The processor's own tensors of the same conversations, as a user of Hugging Face would make them."""
    processor = species.processor
    end = processor.tokenizer.decode([species.prompter.end_id])
    texts = []
    for instruction, answer in zip(INSTRUCTIONS, answers, strict=True):
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": instruction}]}
        opened = processor.apply_chat_template([user], add_generation_prompt=True)
        if answer is not None:
            reply = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
            whole = processor.apply_chat_template([user, reply])
            opened = whole[: whole.rindex(answer) + len(answer)] + end
        texts.append(opened)
    options = {"add_special_tokens": False} if texts[0].startswith("<s>") else {}
    images = [picture(i, size) for i, size in enumerate(SIZES)]
    images = [[image.point(lambda _: 0) if blank else image] for image in images]
    side = "left" if left else "right"
    return processor(images=images, text=texts, padding=True, padding_side=side, return_tensors="pt", **options)
