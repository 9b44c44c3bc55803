"""What the examples share: the embedded tiny VLM, digits with their exemplars, and batches of three branches."""

from __future__ import annotations

import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from vitask.losses import IGNORE_INDEX
from vitask.vlm.adapt import add_lora
from vitask.vlm.connector import Connector
from vitask.vlm.families import family_for
from vitask.vlm.inputs import Placement, make_branch, stack_images
from vitask.vlm.load import load_pretrained
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.prompts import Prompter

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
QUESTION = "Which digit is it?"


def digits(count: int) -> list[dict]:
    """Return samples of an image, its answer, and an exemplar: what a small model makes of the image."""
    pixels, labels = load_digits(return_X_y=True)
    features = LinearDiscriminantAnalysis().fit(pixels, labels).transform(pixels)
    return [
        {
            "image": Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).convert("RGB"),
            "answer": WORDS[label],
            "exemplar": torch.tensor(feature, dtype=torch.float32)[None],
        }
        for image, label, feature in zip(pixels[:count], labels, features, strict=False)
    ]


def build() -> tuple[ExemplarVLM, Prompter]:
    """Return the VLM, LoRA and connector trainable and the rest frozen, and what turns samples into tokens."""
    model, processor = load_pretrained("tiny")
    family = family_for(model)
    connector = Connector(len(WORDS) - 1, model.get_input_embeddings().embedding_dim)
    vlm = ExemplarVLM(add_lora(model, family), family, connector, Placement("after_image", 1))
    return vlm, Prompter(processor, family, model.config)


class Collator:
    """Makes a batch: each answer behind its image, behind image and exemplar, and behind another sample's image."""

    def __init__(self, vlm: ExemplarVLM, prompter: Prompter) -> None:
        self.placement, self.prompter = vlm.placement, prompter

    def __call__(self, samples: list[dict]) -> dict:
        """Return what `ExemplarVLM` takes, and `labels (B, R)`, the tokens of the answers."""
        prompts = [self.prompter.prompt(sample["image"], QUESTION) for sample in samples]
        answers = [self.prompter.response(sample["answer"]) for sample in samples]
        own = list(range(len(samples)))
        other = own[1:] + own[:1]
        branches = {
            "vanilla": make_branch(prompts, answers, None, own, self.prompter),
            "exemplar": make_branch(prompts, answers, self.placement, own, self.prompter),
            "negative": make_branch([prompts[i] for i in other], answers, None, other, self.prompter),
        }
        tokens = [torch.tensor(answer) for answer in answers]
        return {
            **stack_images(prompts, self.prompter),
            "branches": branches,
            "exemplars": torch.stack([sample["exemplar"] for sample in samples]),
            "labels": torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=IGNORE_INDEX),
            "has_negative": torch.tensor([[samples[i]["answer"] != samples[j]["answer"]] for i, j in enumerate(other)]),
        }
