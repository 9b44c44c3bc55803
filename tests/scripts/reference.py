"""What an original InternVL2 computes, written in plain torch on its own tensors, and how it reads text.

Only norms and rotary angles are computed in float32, as the original does whatever the precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = Mapping[str, Tensor]


class Part:
    """The tensors below a prefix."""

    def __init__(self, tensors: Tensors, prefix: str) -> None:
        self.tensors, self.prefix = tensors, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[f"{self.prefix}.{name}"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self[f"{name}.weight"], self.tensors.get(f"{self.prefix}.{name}.bias"))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    single = x.float()
    return weight * (single * torch.rsqrt(single.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def attention(queries: list[Tensor], keys: list[Tensor], values: list[Tensor], causal: bool) -> Tensor:
    """Head by head, each `(tokens, size)`; keys and values repeat for the queries of their group."""
    heads, repeat = [], len(queries) // len(keys)
    for number, query in enumerate(queries):
        key, value = keys[number // repeat], values[number // repeat]
        scores = query @ key.T / query.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ value)
    return torch.cat(heads, -1)


def image_features(tensors: Tensors, config: Mapping[str, Any], pixels: Tensor) -> Tensor:
    """The embeddings `(tokens, width)` of one tile `(3, side, side)`."""
    vision = config["vision_config"]
    eps, count = vision["layer_norm_eps"], vision["num_attention_heads"]

    def norm(part: Part, name: str, x: Tensor) -> Tensor:
        if vision["norm_type"] == "rms_norm":
            return rms_norm(x, part[f"{name}.weight"], eps)
        return F.layer_norm(x, x.shape[-1:], part[f"{name}.weight"], part[f"{name}.bias"], eps)

    start = Part(tensors, "vision_model.embeddings")
    weight, bias = start["patch_embedding.weight"], start["patch_embedding.bias"]
    patches = F.conv2d(pixels[None], weight, bias, stride=vision["patch_size"])[0]
    grid, width = patches.shape[-1], patches.shape[0]
    side = vision["image_size"] // vision["patch_size"]
    places = start["position_embedding"][0]
    square = places[1:].reshape(side, side, width).permute(2, 0, 1)[None]
    square = F.interpolate(square, (grid, grid), mode="bicubic", align_corners=False)[0]
    x = torch.cat([start["class_embedding"][0], patches.flatten(1).T])
    x = x + torch.cat([places[:1], square.flatten(1).T])
    states = [x]
    for number in range(vision["num_hidden_layers"]):
        layer = Part(tensors, f"vision_model.encoder.layers.{number}")
        q, k, v = layer.linear("attn.qkv", norm(layer, "norm1", x)).split(width, -1)
        if vision["qk_normalization"]:
            q, k = rms_norm(q, layer["attn.q_norm.weight"], eps), rms_norm(k, layer["attn.k_norm.weight"], eps)
        seen = attention(*([*each.chunk(count, -1)] for each in (q, k, v)), causal=False)
        x = x + layer.linear("attn.proj", seen) * layer["ls1"]
        inner = F.gelu(layer.linear("mlp.fc1", norm(layer, "norm2", x)))
        x = x + layer.linear("mlp.fc2", inner) * layer["ls2"]
        states.append(x)
    x = states[config["select_layer"]][1:].reshape(grid, grid, width)
    rows = range(0, grid, 2)
    four = [torch.cat([x[r, c], x[r, c + 1], x[r + 1, c], x[r + 1, c + 1]]) for r in rows for c in rows]
    mlp = Part(tensors, "mlp1")
    x = F.layer_norm(torch.stack(four), (4 * width,), mlp["0.weight"], mlp["0.bias"])
    return mlp.linear("3", F.gelu(mlp.linear("1", x)))


def rotate(x: Tensor, text: Mapping[str, Any]) -> Tensor:
    """Turn `(tokens, size)` by the angles of its places 0, 1, 2, ..."""
    length, size = x.shape
    base, scaling = float(text["rope_theta"]), text["rope_scaling"] or {}
    places = torch.arange(length).float() / (scaling["factor"] if scaling.get("type") == "linear" else 1)
    if scaling.get("type") == "dynamic" and length > (limit := text["max_position_embeddings"]):
        base *= (scaling["factor"] * length / limit - (scaling["factor"] - 1)) ** (size / (size - 2))
    angles = places[:, None] * (1 / base ** (torch.arange(0, size, 2).float() / size))
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x[:, : size // 2], x[:, size // 2 :]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def heads_of(part: Part, x: Tensor, text: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Queries, keys and values of each head, `(tokens, size)`."""
    heads, groups = text["num_attention_heads"], text["num_key_value_heads"]
    size = text["hidden_size"] // heads
    if text["architectures"] != ["InternLM2ForCausalLM"]:
        whole = {name: part.linear(f"self_attn.{name}_proj", x) for name in "qkv"}
        return tuple([*whole[name].split(size, -1)] for name in "qkv")
    together, each = part.linear("attention.wqkv", x), heads // groups
    cells = [together[:, start : start + size] for start in range(0, together.shape[1], size)]
    queries, keys, values = [], [], []
    for group in range(groups):
        first = group * (each + 2)
        queries += cells[first : first + each]
        keys.append(cells[first + each])
        values.append(cells[first + each + 1])
    return queries, keys, values


def logits(tensors: Tensors, config: Mapping[str, Any], ids: list[int], pixels: Tensor, image_token: int) -> Tensor:
    """The logits `(tokens, words)` of a prompt with one image of one tile."""
    text = config["llm_config"]
    internlm2 = text["architectures"] == ["InternLM2ForCausalLM"]
    names = ["tok_embeddings", "attention_norm", "attention.wo", "ffn_norm", "feed_forward.w1", "w3", "w2", "output"]
    if not internlm2:
        names = ["embed_tokens", "input_layernorm", "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj"]
        names += ["up_proj", "down_proj", "lm_head"]
    embed, before, out, between, gate, up, down, head = names
    block, eps = gate.split(".")[0], text["rms_norm_eps"]
    table = tensors[f"language_model.model.{embed}.weight"]
    x = table[torch.tensor(ids)].clone()
    x[torch.tensor(ids) == image_token] = image_features(tensors, config, pixels)
    for number in range(text["num_hidden_layers"]):
        layer = Part(tensors, f"language_model.model.layers.{number}")
        queries, keys, values = heads_of(layer, rms_norm(x, layer[f"{before}.weight"], eps), text)
        turned = [[rotate(one, text) for one in many] for many in (queries, keys)]
        x = x + layer.linear(out, attention(*turned, values, causal=True))
        inner = rms_norm(x, layer[f"{between}.weight"], eps)
        inner = F.silu(layer.linear(gate, inner)) * layer.linear(f"{block}.{up}", inner)
        x = x + layer.linear(f"{block}.{down}", inner)
    x = rms_norm(x, tensors["language_model.model.norm.weight"], eps)
    return x @ (table if text["tie_word_embeddings"] else tensors[f"language_model.{head}.weight"]).T


def sentencepiece_ids(text: str, pieces: list[tuple[str, float, int]], added: Mapping[int, str]) -> list[int]:
    """How sentencepiece reads a text without special tokens: it joins the neighbours of the best score, time and again.

    Args:
        text: the text; no dummy prefix.
        pieces: piece, score and type.
        added: tokens whose pieces are never made.
    """
    number = {piece: i for i, (piece, _, kind) in enumerate(pieces) if kind == 1 and i not in added}
    parts = [*text.replace(" ", "▁")]
    while joined := [(place, a + b) for place, (a, b) in enumerate(pairwise(parts)) if a + b in number]:
        place, piece = max(joined, key=lambda found: (pieces[number[found[1]]][1], -found[0]))
        parts[place : place + 2] = [piece]
    byte = {piece: i for i, (piece, _, kind) in enumerate(pieces) if kind == 6}
    return [i for p in parts for i in ([number[p]] if p in number else [byte[f"<0x{b:02X}>"] for b in p.encode()])]
