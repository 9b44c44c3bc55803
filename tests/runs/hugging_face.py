"""A run's VLM as Hugging Face and peft alone load it, and the likelihood of an answer from one plain forward."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from vitask.vlm.load import TINY_FOLDER


class PlainVLM:
    """The embedded VLM, with the adapter of a run or without."""

    def __init__(self, run: Path | None) -> None:
        self.processor = AutoProcessor.from_pretrained(TINY_FOLDER)
        model = AutoModelForImageTextToText.from_pretrained(TINY_FOLDER, dtype=torch.float32)
        with warnings.catch_warnings():  # peft asks transformers for an attribute by its old name
            warnings.simplefilter("ignore", FutureWarning)
            self.model = (model if run is None else PeftModel.from_pretrained(model, str(run / "model/adapter"))).eval()

    @torch.no_grad()
    def log_p(self, image: Image.Image, instruction: str, answer: str) -> list[float]:
        """log p of each token of an answer, the end of the turn included."""
        tokenizer = self.processor.tokenizer
        inputs = self._prompt(image, instruction)
        response = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = torch.cat([inputs["input_ids"], torch.tensor([response])], dim=1)
        logits = self.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0].double()
        start = ids.shape[1] - len(response) - 1
        return [logits[start + t].log_softmax(-1)[token].item() for t, token in enumerate(response)]

    def scores(self, image: Image.Image, instruction: str, answers: Sequence[str]) -> torch.Tensor:
        """The log-likelihood of each answer, float64."""
        return torch.tensor([sum(self.log_p(image, instruction, a)) for a in answers], dtype=torch.float64)

    @torch.no_grad()
    def answer(self, image: Image.Image, instruction: str) -> str:
        """The greedy answer, by the model's own `generate`."""
        inputs = self._prompt(image, instruction)
        new = self.model.generate(**inputs, do_sample=False, max_new_tokens=32)[0, inputs["input_ids"].shape[1] :]
        return self.processor.tokenizer.decode(new, skip_special_tokens=True).strip()

    def _prompt(self, image: Image.Image, instruction: str) -> dict[str, torch.Tensor]:
        content = [{"type": "image"}, {"type": "text", "text": instruction}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return self.processor(images=[image.convert("RGB")], text=[text], return_tensors="pt")
