"""Prompts and responses against the chat template as Hugging Face tokenises it."""

from __future__ import annotations

import copy
import pickle

import pytest
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing

from vitask.errors import VitaskError
from vitask.vlm import prompts
from vitask.vlm.families import InternVL
from vitask.vlm.prompts import Prompter, PromptTable

from .tiny import INSTRUCTIONS, picture, tiny_processor, tiny_prompter, with_token


def own_processor():
    return copy.deepcopy(tiny_processor())


def begins_with_bos(processor) -> None:
    """A tokenizer that adds a first token by itself, and a template that writes it too."""
    tokenizer = processor.tokenizer
    tokenizer.bos_token = tokenizer.pad_token
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)]
    )
    processor.chat_template = tokenizer.bos_token + processor.chat_template


def adds_bos(processor) -> None:
    """The same tokenizer with a template that leaves the first token to it."""
    template = processor.chat_template
    begins_with_bos(processor)
    processor.chat_template = template


def spaced_like_sentencepiece(processor) -> None:
    """A tokenizer that puts a space before a text that stands alone."""
    processor.tokenizer._tokenizer.normalizer = normalizers.Prepend(" ")


def leads_with_a_space(processor) -> None:
    """A template that puts a space between the assistant tag and the response, and ends it with another token."""
    processor.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}] {% for part in m['content'] %}"
        "{{ '<IMG_CONTEXT>\n' if part['type'] == 'image' else part['text'] }}{% endfor %}"
        "{{ '<|endoftext|>' if m['role'] == 'assistant' else '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )


def unchanged(processor) -> None:
    pass


CASES = [unchanged, begins_with_bos, adds_bos, spaced_like_sentencepiece, leads_with_a_space]


@pytest.mark.parametrize("change", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_conversation_has_the_ids_of_the_chat_template(change, instruction):
    processor = own_processor()
    change(processor)
    prompter = Prompter(processor, InternVL(), with_token(processor.image_token_id))
    image, answer = picture(0), "one, two"
    user = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": instruction}]}
    options = {"tokenize": True, "return_dict": True}
    opened = processor.apply_chat_template([user], add_generation_prompt=True, **options)["input_ids"][0]
    reply = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    whole = processor.apply_chat_template([user, reply], **options)["input_ids"][0]

    prompt, response = prompter.prompt(image, instruction), prompter.response(answer)
    assert [*prompt.head, *prompt.body, *prompt.tag] == opened
    assert [*opened, *response] == whole[: len(opened) + len(response)]
    assert processor.tokenizer.decode(whole[len(opened) + len(response) :]).strip() == ""
    assert processor.tokenizer.decode([prompter.end_id]) in processor.tokenizer.all_special_tokens
    assert response[-1] == prompter.end_id
    assert prompter.decode(response) == answer


def test_prompt_is_cut_after_the_last_image_token_and_before_the_assistant_tag():
    prompt = tiny_prompter().prompt(picture(0), "Which?")
    decode = tiny_processor().tokenizer.decode
    assert prompt.head[-1] == tiny_processor().image_token_id
    assert prompt.image_tokens == prompt.head.count(prompt.head[-1]) == 16
    assert "Which?" in decode(prompt.body)
    assert decode(prompt.tag) == "<|im_start|>assistant\n"
    assert prompt.images.keys() == {"pixel_values"}


def test_image_options_reach_the_image_processor():
    size = {"height": 64, "width": 64}
    prompter = Prompter(tiny_processor(), InternVL(), with_token(tiny_processor().image_token_id), {"size": size})
    assert prompter.prompt(picture(0), "Which?").images["pixel_values"].shape[-2:] == (64, 64)


def test_grey_images_are_read_as_rgb():
    grey = picture(0).convert("L")
    prompt = tiny_prompter().prompt(grey, "Which?")
    same = tiny_prompter().prompt(grey.convert("RGB"), "Which?")
    assert (prompt.images["pixel_values"] == same.images["pixel_values"]).all()


def test_processor_without_a_chat_template_is_refused():
    processor = own_processor()
    processor.chat_template = None
    with pytest.raises(VitaskError, match="no chat template"):
        Prompter(processor, InternVL(), with_token(5))


def test_template_without_an_assistant_tag_is_refused():
    processor = own_processor()
    processor.chat_template = processor.chat_template.replace("add_generation_prompt", "false")
    with pytest.raises(VitaskError, match="assistant tag"):
        Prompter(processor, InternVL(), with_token(processor.image_token_id)).prompt(picture(0), "Which?")


def test_template_that_drops_the_image_is_refused():
    processor = own_processor()
    processor.chat_template = processor.chat_template.replace("<IMG_CONTEXT>", "")
    with pytest.raises(VitaskError, match=r"takes no prompt of its own chat template|no image token"):
        Prompter(processor, InternVL(), with_token(processor.image_token_id)).prompt(picture(0), "Which?")


def test_wrong_placeholder_id_is_refused():
    unknown = with_token(len(tiny_processor().tokenizer) + 1)
    with pytest.raises(VitaskError, match="no image token"):
        Prompter(tiny_processor(), InternVL(), unknown).prompt(picture(0), "Which?")


def test_prompter_survives_the_way_to_a_worker_process():
    prompter = Prompter(tiny_processor(), InternVL(), with_token(tiny_processor().image_token_id))
    prompter.prompt(picture(0), "Which?")
    again = pickle.loads(pickle.dumps(prompter))
    assert again.prompt(picture(1), "Which?").head == prompter.prompt(picture(1), "Which?").head


def test_table_keeps_prompts_up_to_its_budget(monkeypatch):
    images = [picture(i) for i in range(3)]
    prompt = tiny_prompter().prompt(images[0], "Which?")
    ids = prompts.ID_BYTES * len(prompt.head + prompt.body)
    size = prompt.images["pixel_values"].nbytes + prompt.positions.nbytes + ids
    monkeypatch.setattr(prompts, "CACHE_BYTES", 2 * size)
    table = PromptTable(images, tiny_prompter(), "Which?")
    assert len(table) == 3
    first = [table[i] for i in range(3)]
    assert [table[i] is first[i] for i in range(3)] == [True, True, False]
    assert table[2].head == first[2].head
    assert (table[2].images["pixel_values"] == first[2].images["pixel_values"]).all()


def test_table_without_image_inputs_keeps_all_but_them():
    images = [picture(i) for i in range(2)]
    table = PromptTable(images, tiny_prompter(), "Which?", with_inputs=False)
    whole = PromptTable(images, tiny_prompter(), "Which?")[1]
    assert table[1].images == {}
    assert (table[1].head, table[1].body, table[1].image_tokens) == (whole.head, whole.body, whole.image_tokens)


def test_tag_that_the_tokenizer_joins_with_the_response_is_refused():
    processor = own_processor()
    leads_with_a_space(processor)
    processor.tokenizer._tokenizer.normalizer = normalizers.Replace("] o", "x")
    with pytest.raises(VitaskError, match="joins"):
        Prompter(processor, InternVL(), with_token(processor.image_token_id)).response("one")
