"""What an exported VLM says of an image, in functions that a model card prints: checks run the same ones."""

from __future__ import annotations

import torch
from peft import PeftModel
from torch.nn.functional import pad
from transformers import AutoModelForImageTextToText, AutoProcessor

from vitask.data import shrunk


def load_adapter(folder, base, **options):
    """Load the base model with the adapter on it, and the processor."""
    model = AutoModelForImageTextToText.from_pretrained(base, **options)
    return PeftModel.from_pretrained(model, folder).eval(), AutoProcessor.from_pretrained(folder)


def load_merged(folder, **options):
    """Load the model and its processor."""
    return AutoModelForImageTextToText.from_pretrained(folder, **options).eval(), AutoProcessor.from_pretrained(folder)


def read_prompt(model, processor, question, image, instruction):
    """Return the model's inputs for an image and an instruction."""
    content = [{"type": "image", "image": shrunk(image, question["size"])}, {"type": "text", "text": instruction}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=dict(question["image_options"]),
    ).to(model.device, model.dtype)


@torch.no_grad()
def token_log_likelihoods(model, prompt, response):
    """Return log p of each token of a response behind a prompt."""
    ids, tokens = prompt["input_ids"], torch.tensor([response], device=model.device)
    longer = {
        name: pad(value, (0, tokens.shape[1]), value=int(name == "attention_mask"))
        for name, value in prompt.items()
        if value.shape == ids.shape
    }
    inputs = {**prompt, **longer, "input_ids": torch.cat([ids, tokens], dim=1)}
    logits = model(**inputs).logits[0, ids.shape[1] - 1 : -1].double()
    return logits.log_softmax(-1).gather(1, tokens.T)[:, 0]


def answer_in_labels(model, processor, question, image):
    """Return the labels of the likeliest answer, and the probability of each label.

    Answers have likelihoods, a forward pass each, which are normalised; a label has those of all answers that hold it.
    """
    prompt = read_prompt(model, processor, question, image, question["instruction"])
    answers = question["answers"]
    scores = torch.stack([token_log_likelihoods(model, prompt, answer["tokens"]).sum() for answer in answers])
    found = dict.fromkeys(question["labels"], 0.0)
    for answer, probability in zip(answers, scores.softmax(0).tolist(), strict=True):
        for label in answer["labels"]:
            found[label] += probability
    return answers[scores.argmax()]["labels"], found


def answer_in_words(model, processor, question, image, instruction):
    """Return the greedy answer to an instruction."""
    prompt, end = read_prompt(model, processor, question, image, instruction), question["end_token"]
    ids = model.generate(
        **prompt,
        max_new_tokens=question["max_tokens"],
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        eos_token_id=end,
        pad_token_id=end,
    )
    return processor.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()
