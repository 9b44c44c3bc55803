"""Merged and loaded by transformers alone, a model of every family gives vitask's label probabilities."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoProcessor

from vitask.evaluation.closed_set import answer_images
from vitask.export.check import require_changed, target_digests
from vitask.export.plain import answer_in_labels, load_merged
from vitask.export.write import describe_labels, write_merged
from vitask.vlm.prompts import Prompter, PromptTable

from .batches import LABELS, make_vlm
from .zoo import INSTRUCTIONS, SIZES, picture

PIXELS = {"size": {"shortest_edge": 64, "longest_edge": 512}}
OPTIONS = {
    "internvl": {"crop_to_patches": False},
    "idefics3": {"do_image_splitting": False},
    "smolvlm": {"do_image_splitting": False},
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), PIXELS),
}
"""Image options as `configs/vlm` has them for the family; the others are asked with all their tiles."""


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft asks for it by its old name
def test_a_merged_model_gives_the_same_label_probabilities(species, tmp_path):
    options = OPTIONS.get(species.name, {})
    vlm = make_vlm(species, train_tower=True, train_projector=True)
    generator = torch.Generator().manual_seed(11)
    for parameter in vlm.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    species.processor.save_pretrained(tmp_path / "own")  # read back, its image processor is the one that users get
    prompter = Prompter(AutoProcessor.from_pretrained(tmp_path / "own"), species.family, vlm.base.config, options)
    images = [picture(number, size) for number, size in enumerate(SIZES)]
    prompts = PromptTable(images, prompter, [INSTRUCTIONS[0]] * len(images))
    responses = [prompter.response(label) for label in LABELS]
    batches = answer_images(vlm, prompter, prompts, responses, with_text=False)
    expected = torch.cat([scores for scores, _ in batches]).double().softmax(-1)

    answers = [(label, (number,)) for number, label in enumerate(LABELS)]
    asked = SimpleNamespace(name="x", instruction=INSTRUCTIONS[0], labels=LABELS, multi_label=False, answers=answers)
    tuned = SimpleNamespace(vlm=vlm, prompter=prompter, members=[asked])
    (question,) = describe_labels(tuned, options, [None])["sets"]
    before = target_digests(vlm)
    write_merged(SimpleNamespace(vlm=SimpleNamespace(image_options=options)), tuned, tmp_path / "merged")
    model, processor = load_merged(tmp_path / "merged", dtype="auto")
    assert require_changed(before, model) == len(before) > 0
    found = [answer_in_labels(model, processor, question, image) for image in images]
    rows = [list(probabilities.values()) for _, probabilities in found]
    assert [labels for labels, _ in found] == [[LABELS[best]] for best in expected.argmax(-1).tolist()]
    assert torch.allclose(torch.tensor(rows, dtype=torch.float64), expected, atol=1e-5)
    assert expected.std() > 1e-3
