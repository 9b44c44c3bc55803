"""What an original InternVL2 checkpoint calls its settings, tensors and turns, in the words of transformers."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import InternVLConfig

IMAGE_TOKEN, START_IMAGE, END_IMAGE = "<IMG_CONTEXT>", "<img>", "</img>"
TEXT_TYPES = {"InternLM2ForCausalLM": "llama", "LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
TEXT_KEYS = (
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
)
VISION_KEYS = {
    "attention_bias": "qkv_bias",
    "attention_dropout": "attention_dropout",
    "hidden_act": "hidden_act",
    "hidden_size": "hidden_size",
    "image_size": "image_size",
    "initializer_range": "initializer_range",
    "intermediate_size": "intermediate_size",
    "layer_norm_eps": "layer_norm_eps",
    "layer_scale_init_value": "initializer_factor",
    "norm_type": "norm_type",
    "num_attention_heads": "num_attention_heads",
    "num_channels": "num_channels",
    "num_hidden_layers": "num_hidden_layers",
    "patch_size": "patch_size",
    "projection_dropout": "dropout",
    "use_qk_norm": "qk_normalization",
}
QK_NORM_EPS = 1e-6
"""Of the query and key norms of transformers' vision tower, which has no setting for it."""

# Native names on the left, in the order in which they are replaced.
VISION_NAMES = {
    "vision_tower.": "vision_model.",
    ".encoder.layer.": ".encoder.layers.",
    ".cls_token": ".class_embedding",
    ".position_embeddings": ".position_embedding",
    ".patch_embeddings.projection.": ".patch_embedding.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".lambda_": ".ls",
    ".attention.projection_layer.": ".attn.proj.",
    ".attention.q_proj.": ".attn.qkv.",
    ".attention.k_proj.": ".attn.qkv.",
    ".attention.v_proj.": ".attn.qkv.",
    ".attention.": ".attn.",
}
PROJECTOR_NAMES = {
    "multi_modal_projector.layer_norm.": "mlp1.0.",
    "multi_modal_projector.linear_1.": "mlp1.1.",
    "multi_modal_projector.linear_2.": "mlp1.3.",
}
INTERNLM2_NAMES = {
    ".lm_head.": ".output.",
    ".embed_tokens.": ".tok_embeddings.",
    ".input_layernorm.": ".attention_norm.",
    ".post_attention_layernorm.": ".ffn_norm.",
    ".self_attn.o_proj.": ".attention.wo.",
    ".self_attn.q_proj.": ".attention.wqkv.",
    ".self_attn.k_proj.": ".attention.wqkv.",
    ".self_attn.v_proj.": ".attention.wqkv.",
    ".mlp.gate_proj.": ".feed_forward.w1.",
    ".mlp.down_proj.": ".feed_forward.w2.",
    ".mlp.up_proj.": ".feed_forward.w3.",
}
CHAT = """\
{%- if messages[0]['role'] != 'system' %}
    {{- tags['system'] + system + end }}
{%- endif %}
{%- for message in messages %}
    {{- tags[message['role']] }}
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
    {{- end }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- tags['assistant'] }}
{%- endif %}
"""


# --- settings --------------------------------------------------------------------------------------------------------


def text_architecture(original: Mapping[str, Any]) -> str:
    """Return the class of the language model, `"InternLM2ForCausalLM"` for one.

    Raises:
        UsageError: this is no original InternVL2, or one that transformers' InternVL cannot express.
    """
    if (found := original.get("model_type")) != "internvl_chat":
        also = "; it is in the native format already" if found == "internvl" else ""
        raise UsageError(f"config.json: model_type is '{found}', that of an original InternVL2 'internvl_chat'{also}")
    architecture = (_need(original, "llm_config.architectures") or ["none"])[0]
    if architecture not in TEXT_TYPES:
        known = ", ".join(TEXT_TYPES)
        raise UsageError(f"config.json: the language model {architecture} is not supported; those that are: {known}")
    if (version := original.get("ps_version", "v1")) != "v2":
        raise UsageError(f"config.json: ps_version is '{version}'; transformers' InternVL shuffles pixels as 'v2' only")
    if original.get("use_backbone_lora") or original.get("use_llm_lora"):
        raise UsageError("config.json: the checkpoint holds LoRA layers; merge them first")
    if _need(original, "llm_config").get("rope_pos_id_version", "default") != "default":
        raise UsageError("config.json: llm_config.rope_pos_id_version is not 'default'; V2PE is not supported")
    if original.get("pad2square"):
        raise UsageError("config.json: pad2square is true; transformers' InternVL stretches an image to its tiles")
    if original.get("dynamic_image_size", True) and not original.get("use_thumbnail", True):
        raise UsageError("config.json: use_thumbnail is false; transformers' InternVL puts one behind several tiles")
    eps = _need(original, "vision_config.layer_norm_eps")
    if _need(original, "vision_config.qk_normalization") and eps != QK_NORM_EPS:
        raise UsageError(f"config.json: vision_config.layer_norm_eps is {eps}; with qk_normalization it must be 1e-6")
    return architecture


def native_config(original: Mapping[str, Any], image_token_id: int) -> InternVLConfig:
    """Translate the contents of an original `config.json`.

    Args:
        original: the contents.
        image_token_id: the id of `<IMG_CONTEXT>`.

    Raises:
        UsageError: a setting is missing, or has no counterpart.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import InternVLConfig, LlamaConfig, Qwen2Config

    architecture = text_architecture(original)
    given = _need(original, "llm_config")
    text = {key: given[key] for key in TEXT_KEYS if given.get(key) is not None}
    scaling = {"rope_type": "default", **(given.get("rope_scaling") or {})}
    scaling["rope_type"] = scaling.pop("type", scaling["rope_type"])
    text["rope_parameters"] = {**scaling, "rope_theta": float(given.get("rope_theta", 10000.0))}
    if architecture == "InternLM2ForCausalLM":
        text["attention_bias"] = _need(original, "llm_config.bias")
    tied = text.setdefault("tie_word_embeddings", False)
    try:
        vision = {native: _need(original, f"vision_config.{key}") for native, key in VISION_KEYS.items()}
        kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[TEXT_TYPES[architecture]]
        return InternVLConfig(
            vision_config=vision,
            text_config=kind(**text),
            image_token_id=image_token_id,
            image_seq_length=image_tokens(original),
            downsample_ratio=_need(original, "downsample_ratio"),
            vision_feature_layer=original.get("select_layer", -1),
            tie_word_embeddings=tied,
            architectures=["InternVLForConditionalGeneration"],
            dtype=original.get("torch_dtype") or original.get("dtype") or "float32",
        )
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise UsageError(f"config.json: transformers refuses it: {error}") from error


def image_size(original: Mapping[str, Any]) -> int:
    """Return the side of a tile in pixels."""
    return original.get("force_image_size") or _need(original, "vision_config.image_size")


def image_tokens(original: Mapping[str, Any]) -> int:
    """Return how many tokens a tile becomes."""
    side = image_size(original) // _need(original, "vision_config.patch_size")
    return int(side**2 * _need(original, "downsample_ratio") ** 2)


def _need(original: Mapping[str, Any], key: str) -> Any:
    found: Any = original
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise UsageError(f"config.json: {key} is missing")
        found = found[part]
    return found


# --- tensors ---------------------------------------------------------------------------------------------------------


def published(parameter: str) -> str:
    """Return the name that a parameter of `InternVLForConditionalGeneration` has in published `-hf` checkpoints."""
    if parameter.startswith("lm_head."):
        return f"language_model.{parameter}"
    name = parameter.removeprefix("model.")
    return name.replace("language_model.", "language_model.model.", 1) if name.startswith("language_model.") else name


def originals(native: Iterable[str], architecture: str) -> dict[str, list[str]]:
    """Return the native tensors that each original tensor becomes: one, or query, key and value.

    Example:
        >>> originals(["vision_tower.encoder.layer.0.lambda_1"], "Qwen2ForCausalLM")
        {'vision_model.encoder.layers.0.ls1': ['vision_tower.encoder.layer.0.lambda_1']}
    """
    text = INTERNLM2_NAMES if architecture == "InternLM2ForCausalLM" else {}
    tables = {"vision_tower": VISION_NAMES, "multi_modal_projector": PROJECTOR_NAMES, "language_model": text}
    found: dict[str, list[str]] = {}
    for name in native:
        original = name
        for new, old in tables[name.partition(".")[0]].items():
            original = original.replace(new, old)
        found.setdefault(original, []).append(name)
    order = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
    return {old: sorted(new, key=lambda name: order.get(name.split(".")[-2], 0)) for old, new in found.items()}


def split(tensor: Tensor, native: list[str], heads: int, key_value_heads: int) -> dict[str, Tensor]:
    """Take an original tensor, `(rows, ...)`, apart.

    InternViT's `qkv` holds all queries, all keys, all values; InternLM2's `wqkv` holds, for each key-value head, the
    queries of its group, its key and its value.

    Args:
        tensor: the original.
        native: what it becomes, as `originals` says.
        heads: attention heads of the language model.
        key_value_heads: its key-value heads.
    """
    if len(native) == 1:
        return {native[0]: tensor}
    if native[0].startswith("vision_tower."):
        parts = tensor.chunk(3)
    else:
        groups = tensor.unflatten(0, (key_value_heads, heads // key_value_heads + 2, -1))
        parts = tuple(part.flatten(0, 2) for part in (groups[:, :-2], groups[:, -2:-1], groups[:, -1:]))
    return {name: part.contiguous() for name, part in zip(native, parts, strict=True)}


# --- turns -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversation:
    """How a checkpoint's prompts are written: what opens each role's turn, the system's message, what ends a turn."""

    tags: Mapping[str, str]
    system: str
    end: str

    @property
    def chat_template(self) -> str:
        """The same as a Jinja template, one image or more before the text."""
        names = {"tags": self.tags, "system": self.system, "end": self.end}
        lines = [f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} %}}\n" for name, value in names.items()]
        return "".join(lines) + CHAT


def conversation(source: str, name: str | None) -> Conversation:
    """Read the entry `name` of a checkpoint's `conversation.py` from its syntax tree; nothing of it is run.

    Raises:
        UsageError: there is no such entry, or it has another form.
    """
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        for call in (call for call in calls if ast.unparse(call.func) == "Conversation"):
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            if isinstance(given.get("name"), ast.Constant) and ast.literal_eval(given["name"]) == name:
                return _conversation(given)
    except (SyntaxError, ValueError, KeyError) as error:
        raise UsageError(f"conversation.py: template '{name}' has an unknown form: {error}") from error
    raise UsageError(f"conversation.py: there is no template '{name}', which config.json names")


def _conversation(given: Mapping[str, ast.expr]) -> Conversation:
    if (style := ast.unparse(given["sep_style"])) != "SeparatorStyle.MPT":
        raise ValueError(f"sep_style is {style}, only SeparatorStyle.MPT is supported")
    values = {key: ast.literal_eval(given[key]) for key in ("system_template", "system_message", "roles", "sep")}
    opening, found, rest = values["system_template"].partition("{system_message}")
    if not found or rest:
        raise ValueError("system_template does not end with {system_message}")
    user, assistant = values["roles"]
    tags = {"system": opening, "user": user, "assistant": assistant}
    return Conversation(tags, values["system_message"], values["sep"])
