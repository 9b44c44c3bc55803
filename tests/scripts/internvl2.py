"""Small original InternVL2 checkpoints: their names, shapes and files, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers.convert_slow_tokenizer import import_protobuf

SCRIPTS = Path(__file__).parents[2] / "scripts"
WORDS = ("▁Which", "▁is", "▁it", "▁the", "▁given", "user", "assistant", "system", "▁one", "▁two", "ar", "on")
ADDED = ("<|im_end|>", "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<quad>")
SYSTEM = "Say it: 书生 \"InternVL\" {{ x }} '%}' \\ done."
CODE = f"""
import a_module_that_is_not_there
raise SystemExit("code of a checkpoint was run")

class Conversation:
    def copy(self):
        return Conversation(name=self.name, sep_style=self.sep_style, sep=self.sep)

register_conv_template(Conversation(name="other", sep_style=SeparatorStyle.CHATML, sep="x"))
register_conv_template(
    Conversation(
        name="internlm2-chat",
        system_template="<|im_start|>system\\n{{system_message}}",
        system_message={SYSTEM!r},
        roles=("<|im_start|>user\\n", "<|im_start|>assistant\\n"),
        sep_style=SeparatorStyle.MPT,
        sep="<|im_end|>",
        stop_token_ids=[2, some_name],
    )
)
"""
VISION = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "drop_path_rate": 0.1,
    "hidden_act": "gelu",
    "hidden_size": 24,
    "image_size": 32,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "layer_norm_eps": 1e-6,
    "model_type": "intern_vit_6b",
    "norm_type": "layer_norm",
    "num_attention_heads": 3,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 8,
    "qk_normalization": False,
    "qkv_bias": True,
    "use_flash_attn": True,
}
SIX_B = {"norm_type": "rms_norm", "qk_normalization": True, "qkv_bias": False}
TEXT = {
    "attn_implementation": "flash_attention_2",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "max_position_embeddings": 4096,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
}
INTERNLM2 = {
    "architectures": ["InternLM2ForCausalLM"],
    "bias": False,
    "rope_scaling": {"factor": 2.0, "type": "dynamic"},
}
KINDS: dict[str, dict[str, Any]] = {
    "internlm2": {"llm_config": INTERNLM2},
    "internlm2_long": {  # a prompt longer than what dynamic rotary positions leave alone; biases; the tower of 6 B
        "llm_config": {**INTERNLM2, "bias": True, "num_key_value_heads": 1, "max_position_embeddings": 16},
        "vision_config": SIX_B,
    },
    "internlm2_bfloat16": {"llm_config": {**INTERNLM2, "num_attention_heads": 8}, "torch_dtype": "bfloat16"},
    "qwen2": {"llm_config": {"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True}},
    "llama": {
        "llm_config": {"architectures": ["LlamaForCausalLM"], "rope_scaling": {"type": "linear", "factor": 4.0}},
        "vision_config": SIX_B,
        "force_image_size": 48,
        "select_layer": -2,
    },
}


def make_config(kind: str) -> dict[str, Any]:
    """The contents of `config.json`, the vocabulary's size left out."""
    own = KINDS[kind]
    common = {"model_type": "internvl_chat", "downsample_ratio": 0.5, "ps_version": "v2", "template": "internlm2-chat"}
    common |= {"select_layer": -1, "force_image_size": 32, "torch_dtype": "float32", "max_dynamic_patch": 12}
    parts = {"llm_config": TEXT | own["llm_config"], "vision_config": VISION | own.get("vision_config", {})}
    return common | own | parts


def make_tensors(config: dict[str, Any]) -> dict[str, Tensor]:
    """Random tensors by the original's names."""
    shapes = vision_shapes(config["vision_config"])
    text, width = config["llm_config"], config["llm_config"]["hidden_size"]
    wide = 4 * config["vision_config"]["hidden_size"]
    shapes |= {"mlp1.0.weight": (wide,), "mlp1.0.bias": (wide,)}
    shapes |= {"mlp1.1.weight": (width, wide), "mlp1.1.bias": (width,)}
    shapes |= {"mlp1.3.weight": (width, width), "mlp1.3.bias": (width,)}
    make = internlm2_shapes if text["architectures"][0].startswith("InternLM2") else llama_shapes
    shapes |= {f"language_model.{name}": shape for name, shape in make(text).items()}
    generator = torch.Generator().manual_seed(1)
    dtype = getattr(torch, config["torch_dtype"])
    tensors = {}
    for name, shape in shapes.items():
        scale = 1 if "embedding" in name else shape[-1] ** -0.5 if len(shape) > 1 else 0.5
        shift = 1.0 if len(shape) == 1 and not name.endswith("bias") else 0.0
        tensors[name] = (shift + scale * torch.randn(shape, generator=generator)).to(dtype)
    return tensors


def vision_shapes(vision: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, side = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    shapes = {
        "embeddings.class_embedding": (1, 1, width),
        "embeddings.position_embedding": (1, (vision["image_size"] // side) ** 2 + 1, width),
        "embeddings.patch_embedding.weight": (width, 3, side, side),
        "embeddings.patch_embedding.bias": (width,),
    }
    layer = {"attn.qkv.weight": (3 * width, width), "attn.proj.weight": (width, width), "attn.proj.bias": (width,)}
    layer |= {"mlp.fc1.weight": (inner, width), "mlp.fc1.bias": (inner,)}
    layer |= {"mlp.fc2.weight": (width, inner), "mlp.fc2.bias": (width,)}
    names = ["ls1", "ls2", "norm1.weight", "norm2.weight"]
    names += ["norm1.bias", "norm2.bias"] if vision["norm_type"] == "layer_norm" else []
    names += ["attn.q_norm.weight", "attn.k_norm.weight"] if vision["qk_normalization"] else []
    layer |= dict.fromkeys(names, (width,)) | ({"attn.qkv.bias": (3 * width,)} if vision["qkv_bias"] else {})
    for number in range(vision["num_hidden_layers"]):
        shapes |= {f"encoder.layers.{number}.{name}": shape for name, shape in layer.items()}
    return {f"vision_model.{name}": shape for name, shape in shapes.items()}


def internlm2_shapes(text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, words = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    rows = (text["num_attention_heads"] + 2 * text["num_key_value_heads"]) * (width // text["num_attention_heads"])
    layer = {"attention.wqkv.weight": (rows, width), "attention.wo.weight": (width, width)}
    layer |= {"attention.wqkv.bias": (rows,), "attention.wo.bias": (width,)} if text["bias"] else {}
    layer |= {"feed_forward.w1.weight": (inner, width), "feed_forward.w3.weight": (inner, width)}
    layer |= {"feed_forward.w2.weight": (width, inner)}
    layer |= {"attention_norm.weight": (width,), "ffn_norm.weight": (width,)}
    shapes = {"model.tok_embeddings.weight": (words, width), "model.norm.weight": (width,)}
    shapes["output.weight"] = (words, width)
    for number in range(text["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    return shapes


def llama_shapes(text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, words = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    few = text["num_key_value_heads"] * (width // text["num_attention_heads"])
    rows = {"q": width, "k": few, "v": few}
    layer = {f"self_attn.{name}_proj.weight": (count, width) for name, count in rows.items()}
    layer["self_attn.o_proj.weight"] = (width, width)
    if text["architectures"] == ["Qwen2ForCausalLM"]:
        layer |= {f"self_attn.{name}_proj.bias": (count,) for name, count in rows.items()}
    layer |= {"mlp.gate_proj.weight": (inner, width), "mlp.up_proj.weight": (inner, width)}
    layer |= {"mlp.down_proj.weight": (width, inner)}
    layer |= {"input_layernorm.weight": (width,), "post_attention_layernorm.weight": (width,)}
    shapes = {"model.embed_tokens.weight": (words, width), "model.norm.weight": (width,)}
    shapes |= {} if text["tie_word_embeddings"] else {"lm_head.weight": (words, width)}
    for number in range(text["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    return shapes


def write_original(folder: Path, kind: str, files: int = 1) -> dict[str, Tensor]:
    """Write a checkpoint into a new folder; return its tensors."""
    folder.mkdir(parents=True)
    config = make_config(kind)
    words = {"qwen2": write_byte_level, "llama": write_tokenizer_json}.get(kind, write_sentencepiece)
    config["llm_config"]["vocab_size"] = words(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "conversation.py").write_text(CODE)
    (folder / "modeling_internvl_chat.py").write_text(CODE)
    tensors = make_tensors(config)
    write_tensors(folder, tensors, files)
    return tensors


def write_tensors(folder: Path, tensors: dict[str, Tensor], files: int = 1) -> None:
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    if files == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    names = [f"model-{number:05d}-of-{files:05d}.safetensors" for number in range(1, files + 1)]
    places = {name: names[number % files] for number, name in enumerate(tensors)}
    for file in names:
        save_file({name: tensor for name, tensor in tensors.items() if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def write_sentencepiece(folder: Path) -> int:
    """InternLM2's: the last two pieces are unused words whose ids the turn tokens take; 4 more tokens follow."""
    pb = import_protobuf()
    pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3), *((f"<0x{byte:02X}>", 6) for byte in range(256))]
    longer = [word[:end] for word in WORDS for end in range(2, len(word) + 1)]
    letters = sorted({*"".join(WORDS), *"abcdefghijklmnopqrstuvwxyzS:?."})
    pieces += [(word, 1) for word in dict.fromkeys([*longer, *letters])]
    pieces += [("[UNUSED_TOKEN_145]", 4), ("[UNUSED_TOKEN_146]", 4)]
    model = pb.ModelProto()
    for number, (piece, kind) in enumerate(pieces):
        model.pieces.add(piece=piece, score=-float(number), type=kind)
    model.trainer_spec.model_type, model.trainer_spec.byte_fallback = 2, True
    model.normalizer_spec.add_dummy_prefix = model.normalizer_spec.remove_extra_whitespaces = False
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    added = {0: "<unk>", 1: "<s>", 2: "</s>"} | {len(pieces) - 2 + number: token for number, token in enumerate(ADDED)}
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    write_settings(folder, added, tokenizer_class="InternLM2Tokenizer", **tokens)
    return len(pieces) - 2 + len(ADDED)


def write_byte_level(folder: Path) -> int:
    """Qwen2's: vocab.json and merges.txt, then added tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate([*letters, "is", "Ġis"])}))
    (folder / "merges.txt").write_text("#version: 0.2\ni s\nĠ is\n")
    added = dict(enumerate(("<|endoftext|>", *ADDED), len(letters) + 2))
    tokens = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    write_settings(folder, added, tokenizer_class="Qwen2Tokenizer", **tokens)
    return len(letters) + 2 + len(added)


def write_tokenizer_json(folder: Path) -> int:
    """Llama-3's: one tokenizer.json that puts a token before every text."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>", *ADDED]
    core = Tokenizer(models.BPE({word: i for i, word in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.add_special_tokens(["<s>", "</s>", *ADDED])
    core.decoder = decoders.ByteLevel()
    first = ("<s>", letters.index("<s>"))
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[first])
    core.save(str(folder / "tokenizer.json"))
    write_settings(folder, {}, bos_token={"content": "<s>"}, eos_token="</s>")
    return len(letters)


def write_settings(folder: Path, added: dict[int, str], **settings: Any) -> None:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings["added_tokens_decoder"] = {str(number): {"content": token, **flags} for number, token in added.items()}
    settings["auto_map"] = {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]}
    settings["model_max_length"] = 8192
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def change(path: Path, **changes: Any) -> None:
    """Change a JSON file; `part__key=value` changes a key of a part, `...` removes it."""
    contents = json.loads(path.read_text())
    for place, value in changes.items():
        *parts, key = place.split("__")
        inner = contents
        for part in parts:
            inner = inner[part]
        inner[key] = value
        if value is ...:
            del inner[key]
    path.write_text(json.dumps(contents))
