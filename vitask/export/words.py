"""Runs that answer in words: how likely a response is, and what is answered, of the run and of what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from vitask.evaluation.scoring import encode
from vitask.evaluation.teacher_forcing import response_tokens
from vitask.export import plain
from vitask.export.check import Said
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from vitask.export.samples import Samples
    from vitask.runs.predictor import VLMPredictor


def say_in_words(predictor: VLMPredictor, samples: Samples, *, exemplar: bool, batch_size: int) -> Said:
    """Return the probability of every token of each sample's response, and the answers, of the run itself."""
    (shown,), (asked, responses) = samples.sets, zip(*samples.questions, strict=True)
    texts = list(predictor.ask(shown, asked, exemplar=exemplar, batch_size=batch_size))
    prompter, vlm = predictor.tuned.prompter, predictor.tuned.vlm
    prompts, device = PromptTable(shown.images, prompter, asked), next(vlm.parameters()).device
    exemplars = predictor.source(shown) if exemplar else None
    rows = []
    for start in range(0, len(prompts), batch_size):
        places = range(start, min(start + batch_size, len(prompts)))
        members = [prompts[place] for place in places]
        seen = None if exemplars is None else torch.stack([exemplars[place] for place in places]).to(device)
        tokens = [[prompter.response(responses[place])] for place in places]
        found = response_tokens(vlm, prompter, members, tokens, encode(vlm, prompter, members), seen)
        rows += [log_p.double().exp()[None] for (log_p,) in found]
    return Said(rows, texts)


def say_plainly(
    model: Any, processor: Any, question: Mapping[str, Any], samples: Samples, tokens: list[tuple[int, ...]]
) -> Said:
    """Return the same of a model of transformers; `tokens` are those of the responses."""
    images = samples.sets[0].images
    rows, texts = [], []
    for image, (instruction, _), response in zip(images, samples.questions, tokens, strict=True):
        prompt = plain.read_prompt(model, processor, question, image, instruction)
        rows.append(plain.token_log_likelihoods(model, prompt, response).exp().cpu()[None])
        texts.append(plain.answer_in_words(model, processor, question, image, instruction))
    return Said(rows, texts)
