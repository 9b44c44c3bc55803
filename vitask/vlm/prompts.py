"""From an image and an instruction to token ids: the VLM's own chat template, tokenizer and image processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError

from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from transformers import PretrainedConfig, ProcessorMixin

    from vitask.vlm.families import Family

CACHE_BYTES = 256 << 20
ID_BYTES = 36
"""Of a token id in a tuple."""
PLACEHOLDERS = ("image_token", "video_token", "boi_token")
"""Attributes of processors: texts that they replace by what the model sees."""
_TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class Prompt:
    """A conversation up to the point where the answer begins, in three runs of token ids.

    Attributes:
        head: ends with the last image placeholder.
        body: the rest of the user's turn.
        tag: opens the assistant's turn.
        positions: of the head's tokens, `(P, len(head))` int64; what follows goes on by 1 a token.
        images: the model's image inputs for this one image.
        image_tokens: how many embeddings the image becomes.
    """

    head: tuple[int, ...]
    body: tuple[int, ...]
    tag: tuple[int, ...]
    positions: Tensor
    images: Mapping[str, Tensor]
    image_tokens: int


class Prompter:
    """Renders instructions with the VLM's own chat template and tokenises them with its own processor.

    Args:
        processor: the VLM's processor (tokenizer, image processor, chat template).
        family: the seam to the VLM's family.
        config: the VLM's configuration.
        image_options: keyword arguments for the image processor, for example `{"crop_to_patches": False}`.

    Raises:
        VitaskError: the processor has no chat template, or the template does not end with an assistant tag.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        family: Family,
        config: PretrainedConfig,
        image_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not getattr(processor, "chat_template", None):
            raise VitaskError("vlm.path: the checkpoint has no chat template, so instructions cannot be rendered")
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.family = family
        self.config = config
        self.image_token_id = family.image_token_id(config)
        self.image_options = dict(image_options or {})
        self.pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end_id
        self._rendered: dict[str, tuple[str, tuple[int, ...]]] = {}

    @property
    def end_id(self) -> int:
        """Id of the token that ends a response."""
        return self._frame[-1]

    @cached_property
    def _image_words(self) -> list[str]:
        """Texts that stand for an image or a video in a prompt."""
        own = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
        return [str(word) for word in (own, *(getattr(self.processor, name, None) for name in PLACEHOLDERS)) if word]

    def image_word(self, text: str) -> str | None:
        """Return a word of a text that stands for an image in this VLM's prompts, so that no text may hold it."""
        return next((word for word in self._image_words if word in text), None)

    def require_plain(self, instruction: str) -> None:
        """Check that an instruction holds no such word.

        Raises:
            UsageError: it does.
        """
        if word := self.image_word(instruction):
            raise UsageError(f"instruction: {shown_image_word(instruction, word)}")

    def prompt(self, image: Image, instruction: str) -> Prompt:
        """Tokenise one image and instruction.

        Raises:
            UsageError: the instruction holds the placeholder of an image.
            VitaskError: no image placeholder is left after tokenisation (the image would never reach the model).
        """
        if instruction not in self._rendered:
            self._rendered[instruction] = self._render(instruction)
        text, tag = self._rendered[instruction]
        first = self.tokenizer.bos_token  # like apply_chat_template: not a second time if the template writes it
        options = {"add_special_tokens": False} if first and text.startswith(first) else {}
        try:
            encoded = self.processor(
                images=[image.convert("RGB")], text=[text], return_tensors="pt", **options, **self.image_options
            )
        except (ValueError, TypeError, StrictDataclassError) as error:
            raise self._refused(error) from error
        ids = encoded["input_ids"][0].tolist()
        if self.image_token_id not in ids:
            raise VitaskError("vlm.path: the processor left no image token in the prompt; the image would be ignored")
        end_of_image = len(ids) - ids[::-1].index(self.image_token_id)
        images = {key: value for key, value in encoded.items() if key not in _TEXT_KEYS}
        positions = self.family.positions(self.config, encoded["input_ids"][0, :end_of_image], images)
        return Prompt(
            head=tuple(ids[:end_of_image]),
            body=tuple(ids[end_of_image : len(ids) - len(tag)]),
            tag=tag,
            positions=positions,
            images=images,
            image_tokens=ids.count(self.image_token_id),
        )

    def _refused(self, error: Exception) -> VitaskError:
        """Say what the processor did not take: an option of the user's, or its own template's text."""
        reason = " ".join(str(error).split())[:300]
        if self.image_options:
            return UsageError(f"vlm.image_options={self.image_options}: the processor does not take them: {reason}")
        return VitaskError(f"vlm.path: the processor takes no prompt of its own chat template: {reason}")

    def response(self, text: str) -> tuple[int, ...]:
        """Tokenise a response as it stands behind the assistant tag, with the token that ends it."""
        opened, lead, end = self._frame
        before = self.tokenizer(opened, add_special_tokens=False)["input_ids"]
        ids = self.tokenizer(opened + lead + text, add_special_tokens=False)["input_ids"]
        if ids[: len(before)] != before:
            raise VitaskError("vlm.path: the tokenizer joins the assistant tag and the response into one token")
        return (*ids[len(before) :], end)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn generated ids back into the answer's text."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _render(self, instruction: str) -> tuple[str, tuple[int, ...]]:
        self.require_plain(instruction)
        user = _message("user", [{"type": "image"}, {"type": "text", "text": instruction}])
        text = self.processor.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
        turn = self.processor.apply_chat_template([user], add_generation_prompt=False, tokenize=False)
        opening = self._opening(text, turn, instruction)
        whole = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        for candidate in (opening, opening.strip()):  # a tokenizer may join the space before it to it
            tag = self.tokenizer(candidate, add_special_tokens=False)["input_ids"]
            if tag and whole[-len(tag) :] == tag:
                return text, tuple(tag)
        raise VitaskError("vlm.path: the chat template does not end a prompt with an assistant tag of its own tokens")

    def _opening(self, text: str, turn: str, instruction: str) -> str:
        """Return the assistant tag, or the end of the user's turn if the template puts no tag before an answer."""
        if text != turn:
            return text[len(turn) :] if text.startswith(turn) else ""
        _, lead, _ = self._frame
        _, found, behind = text.rpartition(instruction)
        return behind if found and not lead.strip() else ""

    @cached_property
    def _frame(self) -> tuple[str, str, int]:
        """A conversation up to the assistant tag, what stands between tag and response, and the token behind it."""
        marker = "response"
        user = _message("user", [{"type": "text", "text": "instruction"}])
        answer = _message("assistant", [{"type": "text", "text": marker}])
        opened = self.processor.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
        whole = self.processor.apply_chat_template([user, answer], tokenize=False)
        start = whole.rindex(marker)
        lead = whole[len(opened) : start] if whole.startswith(opened) else ""
        tail = self.tokenizer(whole[start + len(marker) :].strip(), add_special_tokens=False)["input_ids"]
        return opened, lead, tail[0] if tail else self.tokenizer.eos_token_id


class PromptTable:
    """Prompts of a split by index, the first 256 MiB of them kept: small images cost more to process than to hold.

    Args:
        images: the split's PIL images by index.
        prompter: tokenises image and instruction.
        instructions: the rendered instruction, one for all images or one an image.
        with_inputs: keep the model's image inputs too; without them, their features must come from elsewhere.
    """

    def __init__(
        self,
        images: Sequence[Image],
        prompter: Prompter,
        instructions: str | Sequence[str],
        *,
        with_inputs: bool = True,
    ) -> None:
        self.images = images
        self.prompter = prompter
        self.instructions = instructions
        self.with_inputs = with_inputs
        self._kept: dict[int, Prompt] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Number of images of the split."""
        return len(self.images)

    def instruction(self, index: int) -> str:
        """Return what is asked of one image."""
        return self.instructions if isinstance(self.instructions, str) else self.instructions[index]

    def __getitem__(self, index: int) -> Prompt:
        """Return the prompt of one image."""
        if index in self._kept:
            return self._kept[index]
        prompt = self.prompter.prompt(self.images[index], self.instruction(index))
        if not self.with_inputs:
            prompt = replace(prompt, images={})
        ids = len(prompt.head) + len(prompt.body)
        size = sum(tensor.nbytes for tensor in prompt.images.values()) + prompt.positions.nbytes + ID_BYTES * ids
        if self._bytes + size <= CACHE_BYTES:
            self._kept[index] = prompt
            self._bytes += size
        return prompt


def shown_image_word(text: str, word: str) -> str:
    """Say that a text holds what stands for an image."""
    return f"'{text:.80}' holds {word}, which stands for the image in this VLM's prompts; leave it out"


def _message(role: str, content: list[dict[str, str]]) -> dict[str, Any]:
    return {"role": role, "content": content}
