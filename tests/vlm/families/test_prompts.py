"""Prompts of the families' chat templates: where an answer begins and ends, and how many tokens an image takes."""

from __future__ import annotations

import copy

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from vitask.errors import VitaskError
from vitask.vlm.prompts import Prompter

from .zoo import MISTRAL, ZOO, picture

CHAT = ("<|im_start|>assistant\n", "one<|im_end|>")
FRAMES = {
    **dict.fromkeys(("internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision"), CHAT),
    **dict.fromkeys(("llava", "vipllava"), ("ASSISTANT:", " one</s>")),
    "llava_next": (" [/INST]", " one</s>"),
    **dict.fromkeys(("idefics3", "smolvlm"), ("Assistant:", " one<end_of_utterance>")),
}


def test_answer_begins_and_ends_as_in_the_template(species):
    prompter = species.prompter
    prompt = prompter.prompt(picture(0, (32, 32)), "Which?")
    tag, answer = prompter.tokenizer.decode(prompt.tag), prompter.tokenizer.decode(prompter.response("one"))
    assert (tag, answer) == FRAMES[species.name]
    assert "Which?" in prompter.tokenizer.decode(prompt.body)


def test_image_tokens_are_counted_whatever_stands_between_them(species):
    prompt = species.prompter.prompt(picture(0, (32, 32)), "Which?")
    places = [token == species.prompter.image_token_id for token in prompt.head]
    assert prompt.image_tokens == sum(places)
    assert places[-1]
    apart = sum(now and not before for before, now in zip([False, *places], places, strict=False))
    assert apart == (5 if species.name in ("idefics3", "smolvlm") else 1)


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_image_is_one_tile_if_asked_for(name):
    prompter = Prompter(ZOO[name].processor, ZOO[name].family, ZOO[name].prompter.config, {"do_image_splitting": False})
    prompt = prompter.prompt(picture(0, (32, 32)), "Which?")
    assert prompt.image_tokens == 4
    assert prompt.images["pixel_values"].shape == (1, 1, 3, 16, 16)


class FakeProcessor:
    """A processor without images, whose tokenizer joins spaces to what follows them, as sentencepiece does."""

    def __init__(self, template: str) -> None:
        words = ["<pad>", "</s>", "▁", "▁[", *sorted(set("[INST]/Which?\n<image>instructionresponse|_:userant"))]
        core = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("▁", "[")]))
        core.add_special_tokens(["<pad>", "</s>", "<image>"])
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>")
        self.chat_template = template

    def apply_chat_template(self, messages, **options):
        options.setdefault("tokenize", False)
        return self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)


def fake_prompter(template: str) -> Prompter:
    return Prompter(FakeProcessor(template), ZOO["llava"].family, ZOO["llava"].prompter.config)


def test_end_of_the_users_turn_opens_the_answer_where_there_is_no_tag():
    text, tag = fake_prompter(MISTRAL)._render("Which?")
    assert text.endswith("Which? [/INST]")
    assert fake_prompter(MISTRAL).tokenizer.convert_ids_to_tokens(tag) == ["▁[", "/", "I", "N", "S", "T", "]"]


def test_template_that_keeps_its_tag_back_is_refused():
    processor = copy.deepcopy(ZOO["qwen2_vl"].processor)
    processor.chat_template = processor.chat_template.replace("add_generation_prompt", "false")
    prompter = Prompter(processor, ZOO["qwen2_vl"].family, ZOO["qwen2_vl"].prompter.config)
    with pytest.raises(VitaskError, match="assistant tag"):
        prompter.prompt(picture(0, (32, 32)), "Which?")
