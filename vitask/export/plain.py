"""What an exported VLM says of an image, without vitask: model cards print these functions, and checks run them."""

from __future__ import annotations

import torch
from peft import PeftModel
from torch.nn.functional import pad
from transformers import AutoModelForImageTextToText, AutoProcessor


def load_adapter(folder, base, **options):
    """Load the base model with the adapter on it, and the processor."""
    model = AutoModelForImageTextToText.from_pretrained(base, **options)
    return PeftModel.from_pretrained(model, folder).eval(), AutoProcessor.from_pretrained(folder)


def load_merged(folder, **options):
    """Load the model and its processor."""
    return AutoModelForImageTextToText.from_pretrained(folder, **options).eval(), AutoProcessor.from_pretrained(folder)


@torch.no_grad()
def label_probabilities(model, processor, question, image):
    """Return the probability of each label: the likelihood of every answer, a forward pass each, normalised."""
    content = [{"type": "image", "image": image}, {"type": "text", "text": question["instruction"]}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=dict(question["image_options"]),
    ).to(model.device, model.dtype)
    ids, scores = prompt["input_ids"], []
    for answer in question["answers"]:
        tokens = torch.tensor([answer["tokens"]], device=model.device)
        longer = {
            name: pad(value, (0, tokens.shape[1]), value=int(name == "attention_mask"))
            for name, value in prompt.items()
            if value.shape == ids.shape
        }
        inputs = {**prompt, **longer, "input_ids": torch.cat([ids, tokens], dim=1)}
        logits = model(**inputs).logits[0, ids.shape[1] - 1 : -1].double()
        scores.append(logits.log_softmax(-1).gather(1, tokens.T).sum())
    found = dict.fromkeys(question["labels"], 0.0)
    for answer, probability in zip(question["answers"], torch.stack(scores).softmax(0).tolist(), strict=True):
        for label in answer["labels"]:
            found[label] += probability
    return found
