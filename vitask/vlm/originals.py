"""Original InternVL2 checkpoints come with code of their own and are converted first: how, in commands to copy."""

from __future__ import annotations

import json
import re
from pathlib import Path

NAME = re.compile(r"InternVL2[\w.-]*")
OWNER = "OpenGVLab"


def is_original(folder: Path) -> bool:
    """Say whether a folder holds an original InternVL2, by its `config.json`."""
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "internvl_chat"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def conversion(source: str | Path, target: str | Path) -> str:
    """Return the command that converts a checkpoint.

    Example:
        >>> conversion("InternVL2-2B", "InternVL2-2B-hf")
        'python -m vitask.vlm.convert_internvl2 InternVL2-2B InternVL2-2B-hf'
    """
    return f"python -m vitask.vlm.convert_internvl2 {source} {target}"


def how_to_make(path: str) -> str | None:
    """Say how to make a folder that is not there, if its name is that of an InternVL2, converted or original."""
    folder = Path(path)
    named_on_hub = "/" in path and not folder.is_absolute() and not path.startswith((".", "~"))
    if not NAME.fullmatch(folder.name) or (named_on_hub and (folder.parent != Path(OWNER) or path.endswith("-hf"))):
        return None
    original = folder.name.removesuffix("-hf")
    place = Path(original) if named_on_hub else folder.with_name(original)
    fetch = f"hf download {OWNER}/{original} --local-dir {place}"
    return (
        f"it is made of the original, which has code of its own: `{fetch}`, then `{conversion(place, f'{place}-hf')}`"
    )
