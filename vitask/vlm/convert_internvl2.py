"""Turn an original InternVL2 or InternVL2.5 checkpoint into transformers' own format, without running its code.

    python -m vitask.vlm.convert_internvl2 InternVL2-2B InternVL2-2B-hf
    vitask train vlm=internvl2_2b vlm.path=InternVL2-2B-hf ...

Language models of InternLM2, Qwen2 and Llama (1B, 2B, 8B, 26B, 40B, 76B); not Phi-3 (4B). The target appears when it is
complete. Tensors keep their precision; memory holds one file of at most 1 GiB, or one tensor, at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError, VitaskError
from vitask.files import atomic_folder, remove_leftovers
from vitask.vlm.internvl2_names import (
    IMAGE_TOKEN,
    conversation,
    image_size,
    image_tokens,
    native_config,
    originals,
    published,
    split,
    text_architecture,
)
from vitask.vlm.internvl2_tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import InternVLConfig

FILE_BYTES = 1 << 30
ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
IMAGE_MEAN, IMAGE_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


# --- weights ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """An original tensor: its file, shape and bytes."""

    file: Path
    shape: tuple[int, ...]
    size: int


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Return what the safetensors files of a folder hold, read from their headers.

    Raises:
        UsageError: there are none, one that the index names is missing, or a tensor is quantised or there twice.
        VitaskError: a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    files = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    if not files:
        pickled = "; *.bin files are not read, as they can run code" if any(folder.glob("*.bin")) else ""
        raise UsageError(f"{folder} holds no *.safetensors file{pickled}")
    index = folder / "model.safetensors.index.json"
    named = set(read_json(index)["weight_map"].values()) if index.is_file() else set()
    if absent := sorted(named - files.keys()):
        raise UsageError(f"{folder}: {absent[0]} is missing; download it")
    found: dict[str, Stored] = {}
    for path in files.values():
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    shape, kind = tuple(part.get_shape()), part.get_dtype()
                    if kind not in ITEM_BYTES or name in found:
                        why = "is there twice" if name in found else f"is {kind}; quantised checkpoints are not read"
                        raise UsageError(f"{path}: {name} {why}")
                    found[name] = Stored(path, shape, prod(shape) * ITEM_BYTES[kind])
        except SafetensorError as error:
            raise VitaskError(f"{path}: damaged ({error}); download it again") from error
    return found


def check_tensors(config: InternVLConfig, architecture: str, stored: Mapping[str, Stored]) -> dict[str, list[str]]:
    """Return the native tensors that each stored one becomes, or none for a head that repeats the embeddings.

    Raises:
        UsageError: a tensor is missing, is not known, or has another shape than `config.json` says.
    """
    import torch
    from transformers import InternVLForConditionalGeneration

    try:
        with torch.device("meta"):
            model = InternVLForConditionalGeneration(config)
    except ValueError as error:
        raise UsageError(f"config.json: transformers refuses it: {error}") from error
    shapes = {published(name): tuple(parameter.shape) for name, parameter in model.named_parameters()}
    plan = originals(shapes, architecture)
    if config.tie_word_embeddings:
        head = next(iter(originals(["language_model.lm_head.weight"], architecture)))
        plan |= {head: []} if head in stored else {}
    for wrong, what in ((plan.keys() - stored.keys(), "is missing"), (stored.keys() - plan.keys(), "is not known")):
        if wrong:
            more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise UsageError(f"the checkpoint does not fit its config.json: tensor {min(wrong)} {what}{more}")
    for name, native in plan.items():
        wanted = (sum(shapes[each][0] for each in native), *shapes[native[0]][1:]) if native else stored[name].shape
        if stored[name].shape != wanted:
            raise UsageError(f"tensor {name} is {stored[name].shape}, config.json makes it {wanted}")
    return plan


def write_weights(
    config: InternVLConfig, plan: Mapping[str, list[str]], stored: Mapping[str, Stored], out: Path
) -> None:
    """Write the tensors into files of at most `FILE_BYTES`, unless one tensor is larger, and their index."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from safetensors import safe_open
    from safetensors.torch import save_file

    groups: list[list[str]] = [[]]
    for name in sorted(plan, key=lambda name: (stored[name].file, name)):
        if groups[-1] and sum(stored[each].size for each in groups[-1]) + stored[name].size > FILE_BYTES:
            groups.append([])
        groups[-1].append(name)
    total, places = sum(stored[name].size for name in plan), {}
    text = config.text_config
    columns = TextColumn("converting"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        for number, group in enumerate(groups, 1):
            target = out / f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            tensors = {}
            for name in group:
                with safe_open(stored[name].file, "pt") as file:
                    whole = file.get_tensor(name)
                if not plan[name]:
                    _check_tied(name, whole, plan, stored)
                    continue
                tensors |= split(whole, plan[name], text.num_attention_heads, text.num_key_value_heads)
            save_file(tensors, target, metadata={"format": "pt"})
            places |= dict.fromkeys(tensors, target.name)
            progress.advance(task, sum(stored[name].size for name in group))
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _check_tied(name: str, head: Any, plan: Mapping[str, list[str]], stored: Mapping[str, Stored]) -> None:
    from safetensors import safe_open

    embeddings = next(old for old, new in plan.items() if new == ["language_model.model.embed_tokens.weight"])
    with safe_open(stored[embeddings].file, "pt") as file:
        if not head.equal(file.get_tensor(embeddings)):
            raise UsageError(f"tensor {name} differs from {embeddings}, but config.json ties them")


# --- folders ---------------------------------------------------------------------------------------------------------


def convert(source: Path, target: Path, *, overwrite: bool = False) -> None:
    """Convert a checkpoint folder; the target appears when it is complete.

    Args:
        source: the original's folder.
        target: the folder to make.
        overwrite: replace a checkpoint that is there.

    Raises:
        UsageError: the source is missing or not supported, or the target exists.
        VitaskError: a file is damaged.
    """
    source, target = source.expanduser().resolve(), target.expanduser().resolve()
    if not source.is_dir():
        raise UsageError(f"there is no folder {source}")
    if target in (source, *source.parents):
        raise UsageError(f"{target} holds the original; name another folder")
    if target.exists() and not (overwrite and (target / "config.json").is_file()):
        hint = "name another folder" if overwrite else "name another folder, or say --overwrite"
        raise UsageError(f"{target} exists{' and is no checkpoint' if overwrite else ''}; {hint}")
    remove_leftovers(target.parent, target.name)
    with atomic_folder(target) as scratch:
        _write(source, scratch)


def _write(source: Path, out: Path) -> None:
    from transformers import GenerationConfig, GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    original = read_json(source / "config.json")
    architecture = text_architecture(original)
    turns = conversation(_read(source / "conversation.py"), original.get("template"))
    words = load_tokenizer(source, read_json(source / "tokenizer_config.json"))
    config = native_config(original, words.context_image_token_id)
    stored = stored_tensors(source)
    plan = check_tensors(config, architecture, stored)
    end = words.convert_tokens_to_ids(turns.end.strip())
    for token, number in ((IMAGE_TOKEN, words.context_image_token_id), (turns.end.strip(), end)):
        if number is None or number == words.unk_token_id or number >= config.text_config.vocab_size:
            raise UsageError(f"{source}: the language model has no embedding for {token}")
    side = image_size(original)
    look = {"size": {"height": side, "width": side}, "image_mean": IMAGE_MEAN, "image_std": IMAGE_STD}
    tiles = {"min_patches": original.get("min_dynamic_patch", 1), "max_patches": original.get("max_dynamic_patch", 6)}
    if not original.get("dynamic_image_size", True):
        tiles = {"min_patches": 1, "max_patches": 1}  # one tile; InternVLProcessor itself always asks for tiles
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**look, **tiles, crop_to_patches=True),
        tokenizer=words,
        video_processor=InternVLVideoProcessor(**look),
        image_seq_length=image_tokens(original),
        chat_template=turns.chat_template,
    )
    processor.save_pretrained(out)
    config.save_pretrained(out)
    GenerationConfig(eos_token_id=end, pad_token_id=words.pad_token_id).save_pretrained(out)
    write_weights(config, plan, stored, out)


def read_json(path: Path) -> dict[str, Any]:
    """Return the contents of a JSON file.

    Raises:
        UsageError: there is none.
        VitaskError: it is damaged.
    """
    try:
        return json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise VitaskError(f"{path}: damaged: {error}") from error


def _read(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{path} is missing; download the whole checkpoint, its small files too")
    return path.read_text(encoding="utf-8")


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the original checkpoint")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint that is there")
    options = parser.parse_args()
    try:
        convert(options.source, options.target, overwrite=options.overwrite)
    except VitaskError as error:
        print(f"convert_internvl2: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
