"""Loading a pre-trained VLM and its processor: by hub name, by folder, or the embedded tiny one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from vitask.errors import UsageError, VitaskError
from vitask.vlm.originals import conversion, how_to_make, is_original

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel, ProcessorMixin

TINY = "tiny"
TINY_FOLDER = Path(__file__).parent / "tiny"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": "auto"}


def load_pretrained(
    path: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    attention: str = "sdpa",
    trust_remote_code: bool = False,
    quantize: str = "none",
    dequantize: bool = False,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load an image-text-to-text model and its processor.

    Args:
        path: a hub name, a local folder, or `"tiny"` for the model that ships with vitask.
        revision: branch, tag or commit of a hub name.
        dtype: `"float32"`, `"bfloat16"`, `"float16"` or `"auto"` (the checkpoint's own).
        attention: attention implementation of transformers (`"sdpa"`, `"eager"`, `"flash_attention_2"`).
        trust_remote_code: run code that the checkpoint brings along; off unless the user says so.
        quantize: `"nf4"` holds the language model's linear layers in 4 bits (QLoRA), `"none"` leaves them.
        dequantize: turn these layers back into plain ones of `dtype`, with the values that 4 bits hold.

    Returns:
        The model in evaluation mode and its processor.

    Raises:
        UsageError: the dtype is unknown, a folder holds no model, or bitsandbytes is missing.
        VitaskError: the model cannot be loaded, for one because its name cannot be reached.

    Example:
        >>> model, processor = load_pretrained("tiny")
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    if dtype not in DTYPES:
        raise UsageError(f"vlm.dtype: '{dtype}' is not one of {', '.join(DTYPES)}")
    options = _options(revision, trust_remote_code)
    with _one_line(path):
        source = resolve_path(path)
        in_bits = {} if quantize == "none" else {"quantization_config": quantization(source, dtype, **options)}
        model = AutoModelForImageTextToText.from_pretrained(
            source, dtype=DTYPES[dtype], attn_implementation=attention, **in_bits, **options
        )
        if in_bits and dequantize:
            model = model.dequantize()
        processor = AutoProcessor.from_pretrained(source, **options)
    return model.eval(), processor


def load_processor(
    path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> tuple[PretrainedConfig, ProcessorMixin]:
    """Load the configuration and the processor of a model, without its weights.

    Args and errors are those of `load_pretrained`.

    Example:
        >>> config, processor = load_processor("tiny")
    """
    from transformers import AutoConfig, AutoProcessor

    options = _options(revision, trust_remote_code)
    with _one_line(path):
        source = resolve_path(path)
        return AutoConfig.from_pretrained(source, **options), AutoProcessor.from_pretrained(source, **options)


def quantization(source: str, dtype: str, **options: Any) -> BitsAndBytesConfig:
    """Return what makes transformers hold a language model in 4 bits (Dettmers et al., 2023: NF4, quantised twice).

    Vision tower, projector and output layer stay as they are.

    Raises:
        UsageError: bitsandbytes is not installed.
    """
    from transformers import AutoConfig, BitsAndBytesConfig

    from vitask.vlm.families import prompting_family

    require_bitsandbytes()
    family = prompting_family(AutoConfig.from_pretrained(source, **options))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else DTYPES[dtype],
        llm_int8_skip_modules=[family.vision_tower, *family.projector, "lm_head"],
    )


def require_bitsandbytes() -> None:
    """Raise a `UsageError` if the library that holds weights in 4 bits is not installed."""
    if find_spec("bitsandbytes") is None:
        raise UsageError("lora.quantize=nf4 needs bitsandbytes, which is not installed: pip install 'vitask[qlora]'")


def _options(revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    return {"trust_remote_code": trust_remote_code, **({} if revision is None else {"revision": revision})}


@contextmanager
def _one_line(path: str) -> Iterator[None]:
    """Turn whatever keeps a checkpoint from loading into a `VitaskError`."""
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise VitaskError(
            f"vlm.path: cannot load '{path}': {reason} Give a local folder, or the hub name of a checkpoint that is "
            "reachable or already in the Hugging Face cache."
        ) from error


def resolve_path(path: str) -> str:
    """Return what `from_pretrained` takes for `vlm.path`: the embedded folder, a local folder, or a hub name.

    Raises:
        UsageError: there is no such folder, it holds no checkpoint, or one that has to be converted first.
    """
    if path == TINY:
        return str(TINY_FOLDER)
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(f"vlm.path: {folder} holds no config.json; expected a Hugging Face checkpoint folder")
        if is_original(folder):
            raise UsageError(
                f"vlm.path: {folder} is an original InternVL2, which has code of its own; convert it once, "
                f"`{conversion(folder, f'{folder}-hf')}`, then give vlm.path={folder}-hf"
            )
        return str(folder)
    if (remedy := how_to_make(path)) is not None:
        raise UsageError(f"vlm.path: there is no folder {folder}; {remedy}; vlm.path is the converted folder")
    if folder.is_absolute() or path.startswith((".", "~")):
        raise UsageError(f"vlm.path: there is no folder {folder}")
    return path
