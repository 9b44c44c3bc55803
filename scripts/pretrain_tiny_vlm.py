"""Regenerate the embedded tiny VLM: a generalist of drawn shapes, under 3 MB, trained in minutes on one core.

The model is an ``InternVLForConditionalGeneration`` (32 px images, 16 image tokens, two Qwen2 layers of 128).
It learns to caption drawn shapes, to choose among given classes and to repeat words (``tiny_shapes.py``); it never sees
a digit, a glyph or a medical image. The same seed gives the same weights on the same machine.

    python scripts/pretrain_tiny_vlm.py --out vitask/vlm/tiny
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import tiny_shapes
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tiny_probe import write_probe
from tiny_shapes import ATTRIBUTES, COLOURS, DIGITS, MEDICAL_COMMON, MEDICAL_LONG, SIDE, Sample, draw_sample, plural
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)

IMAGE_TOKENS = 16
VOCABULARY, SPACED_WORDS = 576, 36
BATCH_SIZE, PEAK_LR = 48, 2e-3
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IMAGE_SPECIALS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for part in message['content'] %}
            {%- if part['type'] == 'image' %}
                {{- '<IMG_CONTEXT>\\n' }}
            {%- elif part['type'] == 'text' %}
                {{- part['text'] }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


# --- tokenizer -------------------------------------------------------------------------------------------------------


def tokenizer_corpus() -> Counter[str]:
    """Return the texts that tokens are learnt from, each with the number of times it counts."""
    corpus: Counter[str] = Counter()
    for modality in tiny_shapes.MODALITIES:
        corpus[f"user\nAnalyze the given {modality} image. The possible classes are: a, b.\nassistant\n"] += 3
        corpus[f"Analyze the given {modality} image. The possible diagnoses are:a, b."] += 3
    corpus.update({", ".join(DIGITS): 20, "Describe the image? Which in the given: Repeat the word: at the and a": 9})
    corpus.update(dict.fromkeys(MEDICAL_COMMON, 13) | dict.fromkeys(MEDICAL_LONG, 8))
    for attribute, values in ATTRIBUTES.items():
        corpus[f"{attribute}: {', '.join(values)}"] += 8
    for kind, color in ((kind, color) for kind in ATTRIBUTES["shape"] for color in COLOURS):
        corpus.update([f"a small {color} {kind} at the top left", f"a large {color} {kind} at the bottom right"])
        corpus[f"and {color} {plural(kind)}"] += 1
    return corpus


def pre_tokenizer(word: str) -> pre_tokenizers.PreTokenizer:
    """Return the splitter into words matching ``word``; a mark takes the space after it, so listed labels have none."""
    split = pre_tokenizers.Split(Regex(rf"{word}|[.,:;!?]+ ?| ?[^\s\p{{L}}]|\s"), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train_bpe() -> Tokenizer:
    """Learn byte-level merges on words without their spaces, then give the most frequent words a form with a space."""
    corpus = tokenizer_corpus()
    specials = [PAD, START, END, *IMAGE_SPECIALS.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - SPACED_WORDS,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(r"\p{L}+")
    tokenizer.train_from_iterator(corpus.elements(), trainer)
    tokenizer.pre_tokenizer = pre_tokenizer(r" ?\p{L}+")
    after_space: Counter[str] = Counter()
    for text, count in corpus.items():
        tokens = tokenizer.encode(text).tokens
        after_space.update({token: count for space, token in pairwise(tokens) if space == "Ġ"})
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    for word, _ in sorted(after_space.items(), key=lambda item: (-item[1], item[0]))[:SPACED_WORDS]:
        vocabulary[f"Ġ{word}"] = len(vocabulary)
        merges.append(("Ġ", word))
    tokenizer.model = models.BPE(vocabulary, merges)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def build_processor() -> InternVLProcessor:
    """Return the processor: the tokenizer, a 32 px image processor without tiles and the chat template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_bpe(),
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"start_turn_token": START, **IMAGE_SPECIALS},
        padding_side="left",
        model_max_length=1024,
    )
    sizes = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    # InternVLProcessor asks for tiles whatever its image processor says: one tile at most is what keeps 16 tokens.
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**sizes, crop_to_patches=False, max_patches=1),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**sizes),
        image_seq_length=IMAGE_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )


# --- batches ---------------------------------------------------------------------------------------------------------


def to_pixel_values(pictures: Iterable[np.ndarray]) -> torch.Tensor:
    """Return ``[B, 3, SIDE, SIDE]`` floats, exactly what the saved image processor makes of pictures of this size."""
    stacked = torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).float()
    return ((stacked / 255 - 0.5) / 0.5).contiguous()


def prompt_frame(processor: InternVLProcessor) -> str:
    """Return the rendered chat up to the answer, image tokens spelt out, with ``{instruction}`` to fill in."""
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "{instruction}"}]}]
    rendered = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return rendered.replace(processor.image_token, processor.replace_image_token({"num_patches": [1]}, 0))


def collate(processor: InternVLProcessor, samples: list[Sample], answers: bool) -> dict[str, torch.Tensor]:
    """Return model inputs: with answers and labels on the answers alone, or prompts left-padded for generation."""
    tokenizer, frame = processor.tokenizer, prompt_frame(processor)
    rows = tokenizer([frame.replace("{instruction}", sample.instruction) for sample in samples])["input_ids"]
    replies = tokenizer([sample.answer + END for sample in samples])["input_ids"] if answers else [[] for _ in samples]
    side = "right" if answers else "left"

    def padded(sequences: Iterable[list[int]], value: int) -> torch.Tensor:
        tensors = [torch.tensor(sequence) for sequence in sequences]
        return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)

    whole = [row + reply for row, reply in zip(rows, replies, strict=True)]
    batch = {
        "input_ids": padded(whole, tokenizer.pad_token_id),
        "attention_mask": padded(([1] * len(row) for row in whole), 0),
        "pixel_values": to_pixel_values(sample.picture for sample in samples),
    }
    if answers:
        labels = ([-100] * len(row) + reply for row, reply in zip(rows, replies, strict=True))
        batch["labels"] = padded(labels, -100)
    return batch


# --- model and training ----------------------------------------------------------------------------------------------


def build_model(processor: InternVLProcessor) -> InternVLForConditionalGeneration:
    """Return the randomly initialised model."""
    tokenizer = processor.tokenizer
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    vision = {
        "image_size": SIDE,
        "patch_size": 4,
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 192,
        "layer_scale_init_value": 1.0,
        "initializer_range": 0.1,
    }
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
        **ids,
    }
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.image_token_id,
        image_seq_length=IMAGE_TOKENS,
        downsample_ratio=0.5,
        **ids,
    )
    model = InternVLForConditionalGeneration(config)
    # The defaults (no positions, faint patches) would leave a training this short blind to place and shape.
    embeddings = model.model.vision_tower.embeddings
    torch.nn.init.normal_(embeddings.position_embeddings, std=1.0)
    torch.nn.init.normal_(embeddings.patch_embeddings.projection.weight, std=0.4)
    model.generation_config = GenerationConfig(max_new_tokens=32, do_sample=False, **ids)
    return model


def answer_loss(model: InternVLForConditionalGeneration, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean cross-entropy over answer tokens; the head runs on their positions alone."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]
    hidden = model.model(**inputs).last_hidden_state[:, :-1]
    return F.cross_entropy(model.lm_head(hidden[targets != -100]), targets[targets != -100])


def train(model: InternVLForConditionalGeneration, processor: InternVLProcessor, steps: int, seed: int) -> None:
    """Train on fresh samples of the mixture: AdamW, 5 % warm-up, cosine to zero, token-mean loss on the answers."""
    rng = random.Random(f"train {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("train", total=steps, loss=float("nan"))
        for _ in range(steps):
            batch = collate(processor, [draw_sample(rng) for _ in range(BATCH_SIZE)], answers=True)
            loss = answer_loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            progress.update(bar, advance=1, loss=loss.item())


@torch.inference_mode()
def answer(model: InternVLForConditionalGeneration, processor: InternVLProcessor, samples: list[Sample]) -> list[str]:
    """Return the model's greedy answers."""
    batch = collate(processor, samples, answers=False)
    new_tokens = model.generate(**batch)[:, batch["input_ids"].shape[1] :]
    return processor.batch_decode(new_tokens, skip_special_tokens=True)


@torch.inference_mode()
def evaluate(
    model: InternVLForConditionalGeneration, processor: InternVLProcessor, seed: int, samples_per_task: int
) -> dict[str, float]:
    """Return exact-match rates per task, the chance level of choices and the token loss, on freshly drawn samples."""
    rng = random.Random(f"held-out {seed}")
    figures: dict[str, float] = {}
    for task in tiny_shapes.TASKS:
        samples = [draw_sample(rng, task) for _ in range(samples_per_task)]
        answers = answer(model, processor, samples)
        figures[f"{task}_exact_match"] = float(np.mean([a == s.answer for a, s in zip(answers, samples, strict=True)]))
        if task == "choice":
            figures["choice_chance_level"] = float(np.mean([1 / len(sample.options) for sample in samples]))
    mixture = [draw_sample(rng) for _ in range(samples_per_task)]
    figures["token_loss"] = answer_loss(model, collate(processor, mixture, answers=True)).item()
    return {name: round(value, 4) for name, value in figures.items()}


# --- files -----------------------------------------------------------------------------------------------------------


def save(model: InternVLForConditionalGeneration, processor: InternVLProcessor, out: Path) -> None:
    """Write the model (float16 on disk, float32 by default in memory) and the processor to an emptied folder."""
    shutil.rmtree(out, ignore_errors=True)
    processor.save_pretrained(out)
    model.half().save_pretrained(out)
    settings = json.loads((out / "config.json").read_text())
    for part in (settings, settings["text_config"], settings["vision_config"]):
        part["dtype"] = "float32"
    (out / "model.safetensors").chmod(0o644)
    (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("vitask/vlm/tiny"), help="folder to write, emptied first")
    parser.add_argument("--steps", type=int, default=1100, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and samples (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=500, help="held-out samples a task (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Build, train, save, reload, measure what was stored, and record how."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(arguments.seed)
    processor = build_processor()
    model = build_model(processor)
    started = time.process_time()
    train(model, processor, arguments.steps, arguments.seed)
    seconds = time.process_time() - started
    save(model, processor, arguments.out)
    write_probe(arguments.out / "probe.parquet")
    stored = AutoModelForImageTextToText.from_pretrained(arguments.out, dtype=torch.float32).eval()
    figures = evaluate(stored, AutoProcessor.from_pretrained(arguments.out), arguments.seed, arguments.held_out)
    record = {
        "steps": arguments.steps,
        "batch_size": BATCH_SIZE,
        "seed": arguments.seed,
        "tasks": tiny_shapes.TASKS,
        "optimizer": f"AdamW, peak {PEAK_LR}, betas .9 .95, weight decay .05, clip 1, 5 % warm-up, cosine to 0",
        "parameters": stored.num_parameters(),
        "training_cpu_seconds": round(seconds),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, tokenizers, np)},
        "held_out_samples_per_task": arguments.held_out,
        "held_out": figures,
    }
    (arguments.out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
