"""What `vitask doctor` asks of a VLM: what it reads, whether image and exemplar reach it, and what gets gradients."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device
from PIL import Image

from vitask.runs.findings import Finding, ok, wrong
from vitask.runs.inspect import tokens_with_ids
from vitask.vlm.inputs import build_prefix, make_branch, stack_images

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from vitask.data import TaskData
    from vitask.runs.assembly import Assembly
    from vitask.vlm.prompts import Prompt

GREY = (127, 127, 127)
NAMED = 3
"""Names that are written out before the rest is counted."""


def token_sequence(assembly: Assembly, task: TaskData) -> list[tuple[str, str]]:
    """Return one sample as the VLM reads it, in pieces of `prompt`, `exemplar` or `response`, each with its text."""
    prompter, vlm = assembly.prompter, assembly.vlm
    prompt = _prompt(assembly, task)
    keys = build_prefix(prompt, vlm.placement, prompter.image_token_id).keys
    pieces = []
    for slot, run in groupby(keys, key=lambda key: key < 0):
        ids = list(run)
        pieces.append(("exemplar", f"x {len(ids)}") if slot else ("prompt", tokens_with_ids(prompter, ids)))
    return [*pieces, ("response", tokens_with_ids(prompter, _response(assembly, task)))]


def image_finding(assembly: Assembly, task: TaskData, accelerator: Accelerator) -> Finding:
    """Say whether a grey image in the place of the sample's own changes the logits of its response."""
    image = task.splits["train"][0]["image"]
    own, grey = (_logits(assembly, _prompt(assembly, task, each), task, accelerator)
                 for each in (image, Image.new("RGB", image.size, GREY)))  # fmt: skip
    check = "image"
    if torch.equal(own, grey):
        return wrong(check, "does not reach the model: a grey image in its place changes no logit")
    return ok(check, f"a grey one in its place moves a logit by up to {(own - grey).abs().max():.3g}")


def exemplar_finding(assembly: Assembly, task: TaskData, accelerator: Accelerator) -> Finding:
    """Say whether another exemplar in the place of the sample's own changes the logits of its response."""
    own = assembly.data.exemplars[0]
    others = (assembly.data.exemplars[row] for row in range(1, len(assembly.data)))
    other = next((each for each in others if not torch.equal(own, each)), None)
    prompt, check = _prompt(assembly, task), "exemplar"
    mirrored = other is None
    first, second = (_logits(assembly, prompt, task, accelerator, exemplar=each)
                     for each in (own, own.flip(-1) if mirrored else other))  # fmt: skip
    what = "its values in reverse order" if mirrored else "another image's in its place"
    if torch.equal(first, second):
        return wrong(check, f"does not reach the model: {what} changes no logit")
    return ok(check, f"{what} moves a logit by up to {(first - second).abs().max():.3g}")


def gradient_finding(stage: str, task: nn.Module) -> Finding:
    """Say whether exactly what should train has a gradient that is not 0, once a step went backward."""
    parameters = list(task.named_parameters())
    trained = [(name, p) for name, p in parameters if p.requires_grad]
    none = [name for name, p in trained if p.grad is None or not p.grad.any()]
    unasked = [name for name, p in parameters if not p.requires_grad and p.grad is not None]
    check = f"{stage}, gradients"
    if unasked:
        return wrong(check, f"{_listed(unasked)} should be frozen, and got one")
    if none:
        return wrong(check, f"{_listed(none)} should train, and got none: no term of the stage needs them (objective)")
    return ok(check, f"all {len(trained)} tensors that train have one, and nothing else has")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _prompt(assembly: Assembly, task: TaskData, image: Image.Image | None = None) -> Prompt:
    """The first sample's prompt, or the same one with another image."""
    prompts = assembly.data.prompts
    return assembly.prompter.prompt(image or prompts.images[0], prompts.instruction(0))


def _response(assembly: Assembly, task: TaskData) -> tuple[int, ...]:
    return assembly.prompter.response(task.answers[task.splits["train"][0]["answer"]].text)


def _logits(
    assembly: Assembly, prompt: Prompt, task: TaskData, accelerator: Accelerator, *, exemplar: Tensor | None = None
) -> Tensor:
    """The logits of the first sample's response behind a prompt, with an exemplar or without."""
    vlm, prompter = assembly.vlm.eval(), assembly.prompter
    placement = vlm.placement if exemplar is not None else None
    batch = {
        **stack_images([prompt], prompter),
        "branches": {"asked": make_branch([prompt], [_response(assembly, task)], placement, [0], prompter)},
        "exemplars": None if exemplar is None else exemplar[None],
    }
    with torch.no_grad(), accelerator.autocast():
        return vlm(send_to_device(batch, accelerator.device))["asked"].float()
