"""The embedded tiny VLM: small, complete, loadable by the Auto classes, and as good as its record says."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from vitask.data.sources.probe import read_probe
from vitask.evaluation.retention import answer_prompts, retention_metrics
from vitask.vlm.families import InternVL
from vitask.vlm.load import TINY_FOLDER
from vitask.vlm.model import ExemplarVLM
from vitask.vlm.prompts import Prompter

SCRIPTS = Path(__file__).parents[2] / "scripts"
DIGITS_INSTRUCTION = (
    "Analyze the given handwritten digit image. The possible classes are: "
    "zero, one, two, three, four, five, six, seven, eight, nine."
)
FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "pretraining.json",
    "probe.parquet",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import pretrain_tiny_vlm

        yield pretrain_tiny_vlm
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(TINY_FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForImageTextToText.from_pretrained(TINY_FOLDER, dtype=torch.float32).eval()


def chat(instruction: str, **image: Image.Image) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image", **image}, {"type": "text", "text": instruction}]}]


def test_folder_is_complete_small_and_free_of_pickles_and_local_paths():
    files = sorted(TINY_FOLDER.iterdir())
    assert {file.name for file in files} == FILES
    assert sum(file.stat().st_size for file in files) < 3_000_000
    for file in files:
        if file.suffix in {".json", ".jinja"}:
            text = file.read_text()
            assert "_name_or_path" not in text
            assert str(Path.home()) not in text
            assert "://" not in text


def test_weights_are_float16_on_disk_and_float32_in_memory():
    from safetensors import safe_open

    with safe_open(TINY_FOLDER / "model.safetensors", "pt") as stored:
        assert {stored.get_tensor(key).dtype for key in stored.keys()} == {torch.float16}  # noqa: SIM118
    assert AutoModelForImageTextToText.from_pretrained(TINY_FOLDER).dtype == torch.float32


def test_generates_what_the_record_claims(script, model, processor):
    record = json.loads((TINY_FOLDER / "pretraining.json").read_text())["held_out"]
    rng = random.Random("a sample that neither training nor the record has drawn")
    for task in ("caption", "choice", "repeat"):
        samples = [script.draw_sample(rng, task) for _ in range(128)]
        answers = script.answer(model, processor, samples)
        accuracy = np.mean([given == sample.answer for given, sample in zip(answers, samples, strict=True)])
        assert accuracy > record[f"{task}_exact_match"] - 0.15
        if task == "choice":
            assert accuracy > np.mean([1 / len(sample.options) for sample in samples]) + 0.12


def test_the_probe_is_what_the_script_draws(script):
    import tiny_probe

    probe = read_probe(TINY_FOLDER / "probe.parquet")
    drawn = list(tiny_probe.draw_rows())
    assert len(probe) == len(drawn) == 256
    assert (TINY_FOLDER / "probe.parquet").stat().st_size < 200_000
    for (image, prompt, answer), (png, *expected) in zip(probe.rows(), drawn, strict=True):
        assert [prompt, answer] == expected
        assert image.size == (32, 32)
        drawn_image = np.asarray(Image.open(io.BytesIO(png)), dtype=float)
        assert np.abs(np.asarray(image, dtype=float) - drawn_image).mean() < 1  # Pillow's outlines may change


def test_the_probe_holds_what_the_model_can_do_and_not_all_of_it(script, model):
    prompter = Prompter(AutoProcessor.from_pretrained(TINY_FOLDER), InternVL(), model.config)
    rows = list(islice(read_probe(TINY_FOLDER / "probe.parquet").rows(), 128))
    prompts = [prompter.prompt(image, prompt) for image, prompt, _ in rows]
    answers = [answer for *_, answer in rows]
    figures = retention_metrics(*answer_prompts(ExemplarVLM(model, InternVL()), prompter, prompts, answers), answers)
    assert 0.5 < figures["exact_match"] < 0.8
    assert 1.1 < figures["perplexity"] < 1.6


def test_stops_at_the_end_token_by_itself(model, processor):
    inputs = processor.apply_chat_template(
        chat("Repeat: pneumonia", image=Image.new("RGB", (32, 32))),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    new = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert new[-1] == processor.tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id != processor.tokenizer.eos_token_id


def test_template_with_and_without_generation_prompt(processor):
    turn = "<|im_start|>user\n<IMG_CONTEXT>\nWhich?<|im_end|>\n"
    assert processor.apply_chat_template(chat("Which?"), tokenize=False) == turn
    opened = processor.apply_chat_template(chat("Which?"), tokenize=False, add_generation_prompt=True)
    assert opened == turn + "<|im_start|>assistant\n"
    answered = [*chat("Which?"), {"role": "assistant", "content": "ring"}]
    assert processor.apply_chat_template(answered, tokenize=False) == opened + "ring<|im_end|>\n"


@pytest.mark.parametrize("size", [(64, 128), (128, 64), (28, 28), (32, 32), (300, 40)])
def test_every_image_takes_sixteen_tokens(processor, model, size):
    inputs = processor(images=Image.new("RGB", size), text=processor.image_token, return_tensors="pt")
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 16 == processor.image_seq_length
    assert inputs["pixel_values"].shape == (1, 3, 32, 32)
    assert model.get_image_features(inputs["pixel_values"]).pooler_output.shape == (1, 16, 128)


def test_script_prepares_inputs_as_the_processor_does(script, processor):
    sample = script.draw_sample(random.Random(0))
    text = processor.apply_chat_template(chat(sample.instruction), tokenize=False, add_generation_prompt=True)
    theirs = processor(images=Image.fromarray(sample.picture), text=text, return_tensors="pt")
    ours = script.collate(processor, [sample], answers=False)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], rtol=0, atol=1e-6)


def test_labels_cover_the_answer_and_its_end_alone(script, processor):
    rng = random.Random(0)
    samples = [script.draw_sample(rng) for _ in range(8)]
    batch = script.collate(processor, samples, answers=True)
    for row, mask, sample in zip(batch["labels"], batch["attention_mask"], samples, strict=True):
        assert processor.decode(row[row != -100]) == sample.answer + "<|im_end|>"
        assert (row[mask == 0] == -100).all()


def test_tokenizer_is_lossless_and_keeps_labels_short(script, processor):
    def tokens(text: str) -> int:
        return len(processor.tokenizer(text)["input_ids"])

    odd = "Größe 3 µm,\n\t“naïve”  (a, b)"
    assert processor.decode(processor.tokenizer(odd)["input_ids"]) == odd
    assert len(processor.tokenizer) == script.VOCABULARY
    assert tokens(DIGITS_INSTRUCTION) <= 45
    assert {tokens(word) for word in script.DIGITS} == {1}
    assert max(tokens(word) for label in script.MEDICAL_COMMON for word in label.split("-")) <= 3


def test_tokenizer_is_the_one_that_the_script_trains(script, processor):
    assert script.train_bpe().get_vocab() == processor.tokenizer.get_vocab()


@pytest.mark.slow
def test_script_writes_a_loadable_folder(tmp_path):
    command = [sys.executable, SCRIPTS / "pretrain_tiny_vlm.py", "--steps", "2", "--held-out", "8", "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    assert {file.name for file in tmp_path.iterdir()} == FILES
    assert AutoModelForImageTextToText.from_pretrained(tmp_path).num_parameters() < 1_000_000
    assert len(AutoProcessor.from_pretrained(tmp_path).tokenizer) == 576
