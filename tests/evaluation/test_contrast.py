"""Contrastive decoding: the formula on answers, and one pass for each kind of blank image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vitask.evaluation import contrast
from vitask.evaluation.contrast import blank_scores, contrasted
from vitask.evaluation.scoring import encode, score_responses
from vitask.vlm.prompts import PromptTable

from ..vlm.tiny import make_vlm, tiny_prompter

SIZES = ((32, 32), (16, 48), (32, 32), (48, 16), (16, 48))
TEXTS = ("one", "two, three", "a longer answer")


def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(256, size=(h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def responses() -> list[tuple[int, ...]]:
    return [tiny_prompter().response(text) for text in TEXTS]


def test_contrast_is_a_product_of_powers_normalised():
    """p(k) is in proportion to p(k | image) ** (1 + w) / p(k | blank) ** w."""
    seen, blank = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.1, 0.4])
    for weight in (0.0, 0.5, 2.0):
        expected = seen ** (1 + weight) / blank**weight
        found = contrasted(torch.tensor(seen).log(), torch.tensor(blank).log(), weight).softmax(-1)
        np.testing.assert_allclose(found.numpy(), expected / expected.sum(), rtol=1e-12)


@pytest.mark.parametrize("instructions", ["Which is it?", ["Which?", "Which?", "What is it?", "Which?", "Which?"]])
def test_blank_scores_are_those_of_a_grey_image_of_the_same_size_and_question(instructions, monkeypatch):
    vlm, shown = make_vlm(), []
    answer_images = contrast.answer_images
    monkeypatch.setattr(
        contrast, "answer_images", lambda *args, **kwargs: shown.append(len(args[2])) or answer_images(*args, **kwargs)
    )
    found = blank_scores(vlm, PromptTable(images(), tiny_prompter(), instructions), responses(), batch_size=2)
    asked = [instructions] * 5 if isinstance(instructions, str) else instructions
    assert shown == [len(set(zip(SIZES, asked, strict=True)))]
    for row, (size, instruction) in enumerate(zip(SIZES, asked, strict=True)):
        grey = [tiny_prompter().prompt(Image.new("RGB", size, (128, 128, 128)), instruction)]
        expected = score_responses(vlm, tiny_prompter(), grey, responses(), encode(vlm, tiny_prompter(), grey))
        torch.testing.assert_close(found[row], expected[0], rtol=1e-5, atol=1e-4)
