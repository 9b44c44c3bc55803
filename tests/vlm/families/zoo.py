"""One tiny model of every family's own Hugging Face class, with random weights, and the processor that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers.models.smolvlm import processing_smolvlm

from vitask.vlm.families import Family, family_for
from vitask.vlm.prompts import Prompter

WIDTH = 32
TILE = {"height": 16, "width": 16}
GRID = [[16, 32], [32, 16], [32, 32]]
INSTRUCTIONS = ("Which is it?", "Look at it: one, two?", "Say.")
SIZES = ((32, 32), (16, 32), (40, 16))

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{{ IMAGE if part.type == 'image' else part.text }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VICUNA = (  # as llava-1.5 has it: nothing marks the end of an answer
    "{% for m in messages %}{{ m.role.upper() }}: {% for part in m.content %}"
    "{{ '<image>\n' if part.type == 'image' else part.text + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
MISTRAL = (  # as llava-next has it: nothing comes between a turn and its answer
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% for part in m.content %}"
    "{{ '<image>\n' if part.type == 'image' else part.text }}{% endfor %} [/INST]"
    "{% else %}{{ ' ' + m.content[0].text + '</s> ' }}{% endif %}{% endfor %}"
)
IDEFICS = (  # writes the first token itself
    "<s>{% for m in messages %}{{ m.role.capitalize() }}{{ ':' if m.content[0].type == 'image' else ': ' }}"
    "{% for part in m.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


@dataclass(frozen=True)
class Species:
    """A family's model type, small.

    Attributes:
        name: the model type.
        build: makes the untouched model for a vocabulary; takes `attn_implementation`.
        process: makes the processor.
        tower: prefix of the vision tower's parameters.
        projectors: prefixes of the projector's, no part of the tower.
    """

    name: str
    build: Callable[..., nn.Module]
    process: Callable[[], hf.ProcessorMixin]
    tower: str = "model.vision_tower."
    projectors: tuple[str, ...] = ("model.multi_modal_projector.",)

    @property
    def processor(self) -> hf.ProcessorMixin:
        return _processor(self)

    def model(self, seed: int = 0, attention: str = "sdpa") -> nn.Module:
        """An untouched model in evaluation mode, its weights of unit scale: what it says depends on all it sees."""
        torch.manual_seed(seed)
        model = self.build(self.processor.tokenizer, attn_implementation=attention).eval()
        generator = torch.Generator().manual_seed(seed + 1)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                scale = 1 if "embed" in name else parameter[0].numel() ** -0.5
                parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        return model

    @property
    def family(self) -> Family:
        return _prompter(self).family

    @property
    def prompter(self) -> Prompter:
        return _prompter(self)


@cache
def _processor(species: Species) -> hf.ProcessorMixin:
    return species.process()


@cache
def _prompter(species: Species) -> Prompter:
    model = species.model()
    return Prompter(species.processor, family_for(model), model.config)


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def tokenizer(*specials: str, end: str, first: str | None = None, **named: str) -> hf.PreTrainedTokenizerFast:
    """A tokenizer of bytes and special tokens; `first` is put before every text, as sentencepiece models do."""
    specials = ("<pad>", *specials, *named.values(), *([first] if first else []))
    words = [*dict.fromkeys(specials), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if first:
        core.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, words.index(first))]
        )
    core.add_special_tokens(list(specials))
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token=end, bos_token=first, extra_special_tokens=named
    )


def text_config(kind: type[hf.PretrainedConfig], words: hf.PreTrainedTokenizerFast, **options) -> hf.PretrainedConfig:
    return kind(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        **{"num_hidden_layers": 2, **options},
    )


TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3}
SQUARE = {"image_size": 16, "patch_size": 4}


def internvl(words: hf.PreTrainedTokenizerFast, **options) -> nn.Module:
    config = hf.InternVLConfig(
        vision_config={**TOWER, "image_size": [16, 16], "patch_size": [4, 4]},
        text_config=text_config(hf.Qwen2Config, words),
        image_token_id=words.context_image_token_id,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    return hf.InternVLForConditionalGeneration._from_config(config, **options)


def internvl_processor() -> hf.ProcessorMixin:
    words = tokenizer(
        "<|im_start|>",
        "<|im_end|>",
        end="<|im_end|>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    images = hf.GotOcr2ImageProcessor(size=TILE, crop_to_patches=True, max_patches=4)
    template = CHATML.replace("IMAGE", "'<IMG_CONTEXT>\n'")
    return hf.InternVLProcessor(images, words, hf.InternVLVideoProcessor(), image_seq_length=4, chat_template=template)


def qwen(kind: str, text: str, vision: dict, rope: dict, **text_options) -> Callable[..., nn.Module]:
    def build(words: hf.PreTrainedTokenizerFast, **options) -> nn.Module:
        rotary = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 1, 1], **rope}
        config = getattr(hf, f"{kind}Config")(
            vision_config={"depth": 3, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2, **vision},
            text_config=text_config(getattr(hf, text), words, rope_parameters=rotary, **text_options).to_dict(),
            image_token_id=words.image_token_id,
            video_token_id=words.video_token_id,
        )
        return getattr(hf, f"{kind}ForConditionalGeneration")._from_config(config, **options)

    return build


def qwen_processor(kind: str) -> Callable[[], hf.ProcessorMixin]:
    def process() -> hf.ProcessorMixin:
        words = tokenizer(
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            end="<|im_end|>",
            image_token="<|image_pad|>",
            video_token="<|video_pad|>",
        )
        sizes = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
        images = hf.Qwen2VLImageProcessor(size={"shortest_edge": 64, "longest_edge": 4096}, **sizes)
        template = CHATML.replace("IMAGE", "'<|vision_start|><|image_pad|><|vision_end|>'")
        videos = hf.Qwen3VLVideoProcessor() if kind == "Qwen3VLProcessor" else hf.Qwen2VLVideoProcessor()
        return getattr(hf, kind)(images, words, videos, chat_template=template)

    return process


def llava(
    kind: str, tower: type[hf.PretrainedConfig], text: type[hf.PretrainedConfig], **own
) -> Callable[..., nn.Module]:
    def build(words: hf.PreTrainedTokenizerFast, **options) -> nn.Module:
        config = getattr(hf, f"{kind}Config")(
            vision_config=tower(**TOWER, **SQUARE),
            text_config=text_config(text, words),
            image_token_index=words.image_token_id,
            **own,
        )
        return getattr(hf, f"{kind}ForConditionalGeneration")._from_config(config, **options)

    return build


def llava_processor() -> hf.ProcessorMixin:
    words = tokenizer("</s>", end="</s>", first="<s>", image_token="<image>")
    images = hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=TILE)
    return hf.LlavaProcessor(images, words, 4, "default", VICUNA, num_additional_image_tokens=1)


def llava_next_processor() -> hf.ProcessorMixin:
    words = tokenizer("</s>", end="</s>", first="<s>", image_token="<image>")
    images = hf.LlavaNextImageProcessor(size={"shortest_edge": 16}, crop_size=TILE, image_grid_pinpoints=GRID)
    return hf.LlavaNextProcessor(images, words, 4, "default", MISTRAL, num_additional_image_tokens=1)


def llava_onevision_processor() -> hf.ProcessorMixin:
    words = tokenizer("<|im_start|>", "<|im_end|>", end="<|im_end|>", image_token="<image>", video_token="<video>")
    images = hf.LlavaOnevisionImageProcessor(size=TILE, image_grid_pinpoints=GRID)
    template = CHATML.replace("IMAGE", "'<image>\n'")
    videos = hf.LlavaOnevisionVideoProcessor()
    return hf.LlavaOnevisionProcessor(images, words, videos, 16, "full", template, vision_aspect_ratio="anyres_max_2")


def idefics(kind: str) -> Callable[..., nn.Module]:
    def build(words: hf.PreTrainedTokenizerFast, **options) -> nn.Module:
        config = getattr(hf, f"{kind}Config")(
            vision_config={**TOWER, **SQUARE},
            text_config=text_config(hf.LlamaConfig, words),
            image_token_id=words.convert_tokens_to_ids("<image>"),
            scale_factor=2,
        )
        return getattr(hf, f"{kind}ForConditionalGeneration")._from_config(config, **options)

    return build


def idefics_processor(kind: str) -> Callable[[], hf.ProcessorMixin]:
    def process() -> hf.ProcessorMixin:
        places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
        marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
        words = tokenizer(*marks, *places, end="<end_of_utterance>", first="<s>")
        sizes = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}
        if kind == "Idefics3":
            images = hf.Idefics3ImageProcessor(**sizes)
            return hf.Idefics3Processor(images, words, image_seq_len=4, chat_template=IDEFICS)
        processing_smolvlm.num2words = processing_smolvlm.num2words or str  # for videos alone, but asked for always
        images, videos = hf.SmolVLMImageProcessor(**sizes), hf.SmolVLMVideoProcessor()
        return hf.SmolVLMProcessor(images, words, videos, image_seq_len=4, chat_template=IDEFICS)

    return process


QWEN = {"tower": "model.visual.", "projectors": ("model.visual.merger.",)}
DEEP = {"tower": "model.visual.", "projectors": ("model.visual.merger.", "model.visual.deepstack_merger_list.")}
SMALL = {"hidden_size": 16, "intermediate_size": 24, "out_hidden_size": WIDTH}
IDEFICS_PARTS = {"tower": "model.vision_model.", "projectors": ("model.connector.",)}
ZOO = {
    species.name: species
    for species in (
        Species("internvl", internvl, internvl_processor),
        Species(
            "qwen2_vl",
            qwen("Qwen2VL", "Qwen2VLTextConfig", {"embed_dim": 16, "hidden_size": WIDTH, "mlp_ratio": 2}, {}),
            qwen_processor("Qwen2VLProcessor"),
            **QWEN,
        ),
        Species(
            "qwen2_5_vl",
            qwen(
                "Qwen2_5_VL",
                "Qwen2_5_VLTextConfig",
                {**SMALL, "window_size": 16, "fullatt_block_indexes": [1]},
                {},
            ),
            qwen_processor("Qwen2_5_VLProcessor"),
            **QWEN,
        ),
        Species(
            "qwen3_vl",
            qwen(
                "Qwen3VL",
                "Qwen3VLTextConfig",
                {**SMALL, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
                {"mrope_interleaved": True},
                head_dim=8,
                num_hidden_layers=3,  # or what its second deepstack level adds would reach no text token
            ),
            qwen_processor("Qwen3VLProcessor"),
            **DEEP,
        ),
        Species("llava", llava("Llava", hf.CLIPVisionConfig, hf.LlamaConfig), llava_processor),
        Species(
            "llava_next",
            llava("LlavaNext", hf.CLIPVisionConfig, hf.MistralConfig, image_grid_pinpoints=GRID),
            llava_next_processor,
        ),
        Species(
            "llava_onevision",
            llava(
                "LlavaOnevision",
                hf.SiglipVisionConfig,
                hf.Qwen2Config,
                image_grid_pinpoints=GRID,
                vision_aspect_ratio="anyres_max_2",
            ),
            llava_onevision_processor,
        ),
        Species("idefics3", idefics("Idefics3"), idefics_processor("Idefics3"), **IDEFICS_PARTS),
        Species("smolvlm", idefics("SmolVLM"), idefics_processor("SmolVLM"), **IDEFICS_PARTS),
        Species(  # has no family of its own
            "vipllava",
            llava("VipLlava", hf.CLIPVisionConfig, hf.LlamaConfig, vision_feature_layers=[-2, -1]),
            llava_processor,
        ),
    )
}
