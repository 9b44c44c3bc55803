"""An original checkpoint and what became of it, compared on one prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitask.vlm.families import family_for
from vitask.vlm.load import load_pretrained
from vitask.vlm.prompts import Prompter

from ..vlm.tiny import picture
from .reference import logits

QUESTION = "Which is it: one, two? zü"


@dataclass(frozen=True)
class Pair:
    """An original checkpoint and what became of it."""

    source: Path
    target: Path
    tensors: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        return json.loads((self.source / "config.json").read_text())

    def differences(self, dtype: torch.dtype) -> tuple[float, float]:
        """The largest difference from the original's logits on one prompt, and the logits' standard deviation."""
        model, processor = load_pretrained(str(self.target))
        model.to(dtype)
        prompter = Prompter(processor, family_for(model), model.config, {"crop_to_patches": False})
        prompt = prompter.prompt(picture(0), QUESTION)
        ids, pixels = [*prompt.head, *prompt.body, *prompt.tag], prompt.images["pixel_values"].to(dtype)
        with torch.no_grad():
            found = model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0]
        tensors = {name: tensor.to(dtype) for name, tensor in self.tensors.items()}
        wanted = logits(tensors, self.config, ids, pixels[0], model.config.image_token_id)
        return float((found - wanted).abs().max()), float(wanted.std())
