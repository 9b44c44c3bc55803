"""The tokenizer of an original InternVL2 checkpoint by the `tokenizers` library, without the code that it brings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.errors import UsageError, VitaskError
from vitask.vlm.internvl2_names import END_IMAGE, IMAGE_TOKEN, START_IMAGE

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

BPE, NORMAL, USER_DEFINED = 2, 1, 4
"""Of sentencepiece: the kind of a model, and kinds of pieces."""


def load_tokenizer(folder: Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a checkpoint from its files: `tokenizer.json`, `vocab.json`, or sentencepiece's.

    Args:
        folder: the checkpoint's.
        settings: the contents of its `tokenizer_config.json`.

    Raises:
        UsageError: the files are missing, or of a kind that cannot be expressed.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    if (folder / "tokenizer.json").is_file():
        core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "vocab.json").is_file():
        core = Qwen2Tokenizer.from_pretrained(folder).backend_tokenizer
    elif (folder / "tokenizer.model").is_file():
        core = sentencepiece_tokenizer(folder / "tokenizer.model", settings)
    else:
        raise UsageError(f"{folder} holds none of tokenizer.json, vocab.json, tokenizer.model")
    if absent := [token for token in (IMAGE_TOKEN, START_IMAGE, END_IMAGE) if core.token_to_id(token) is None]:
        raise UsageError(f"{folder}: the tokenizer does not know {absent[0]}")
    named = {f"{name}_token": _text(settings.get(f"{name}_token")) for name in ("bos", "eos", "unk", "pad")}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **named | {"pad_token": named["pad_token"] or named["eos_token"]},
        extra_special_tokens={
            "start_image_token": START_IMAGE,
            "end_image_token": END_IMAGE,
            "context_image_token": IMAGE_TOKEN,
            "video_token": "<video>",  # which the processor wants named; no prompt holds it
        },
        padding_side="left",
        model_max_length=settings.get("model_max_length"),
        clean_up_tokenization_spaces=False,
    )


def sentencepiece_tokenizer(path: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """Express a sentencepiece BPE model, as InternLM2 and Yi have it, and its added tokens by `tokenizers`.

    Args:
        path: the `tokenizer.model`.
        settings: the contents of `tokenizer_config.json`; an added token takes the id, and the place, of its piece.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors

    proto = _sentencepiece_model(path)
    pieces = [piece.piece for piece in proto.pieces]
    added = {int(number): token for number, token in settings.get("added_tokens_decoder", {}).items()}
    plain = {p.piece: p.score for i, p in enumerate(proto.pieces) if p.type == NORMAL and i not in added}
    vocabulary = {added[i]["content"] if i in added else piece: i for i, piece in enumerate(pieces)}
    cuts = [(piece[:cut], piece[cut:]) for piece in plain for cut in range(1, len(piece))]
    merges = [pair for pair in cuts if pair[0] in plain and pair[1] in plain]
    merges.sort(key=lambda pair: -plain[pair[0] + pair[1]])
    core = Tokenizer(
        models.BPE(
            vocabulary,
            merges,
            unk_token=pieces[proto.trainer_spec.unk_id],
            fuse_unk=True,
            byte_fallback=proto.trainer_spec.byte_fallback,
        )
    )
    spec, steps = proto.normalizer_spec, []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" +"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", left=1)] if spec.add_dummy_prefix else []
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    whole = {"normalized": not spec.add_dummy_prefix}  # found in normalised text, as sentencepiece does
    own = {i: {"content": p.piece, **whole} for i, p in enumerate(proto.pieces) if p.type == USER_DEFINED}
    for number, token in sorted((own | added).items()):
        options = {key: token.get(key, False) for key in ("lstrip", "rstrip", "single_word", "normalized", "special")}
        core.add_tokens([AddedToken(token["content"], **options)])
        if (found := core.token_to_id(token["content"])) != number:
            raise UsageError(f"tokenizer_config.json: {token['content']} has id {number}, but would get {found}")
    if settings.get("add_bos_token", True):
        first = _text(settings.get("bos_token")) or "<s>"
        named = [(first, core.token_to_id(first))]
        core.post_processor = processors.TemplateProcessing(single=f"{first} $A", special_tokens=named)
    return core


def _sentencepiece_model(path: Path) -> Any:
    from transformers.convert_slow_tokenizer import import_protobuf

    try:
        proto = import_protobuf().ModelProto()
    except ImportError as error:
        raise UsageError("reading tokenizer.model needs protobuf: pip install protobuf") from error
    from google.protobuf.message import DecodeError

    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise VitaskError(f"{path}: damaged: {error}") from error
    if proto.trainer_spec.model_type != BPE:
        raise UsageError(f"{path}: no BPE model, the only kind of sentencepiece that is supported")
    return proto


def _text(token: str | Mapping[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, Mapping) else token
