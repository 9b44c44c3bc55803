"""One file a VLM family; `FAMILIES` is the registry."""

from __future__ import annotations

from vitask.errors import UsageError
from vitask.vlm.families.base import Family
from vitask.vlm.families.internvl import InternVL

FAMILIES: tuple[type[Family], ...] = (InternVL,)


def family_for(model_type: str) -> Family:
    """Return the family that serves a Hugging Face `config.model_type`.

    Raises:
        UsageError: no family serves it.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family()
    known = ", ".join(sorted(kind for family in FAMILIES for kind in family.model_types))
    raise UsageError(
        f"vlm.path: no family for model type '{model_type}' (known: {known}); CONTRIBUTING.md says how to add one"
    )


__all__ = ["FAMILIES", "Family", "InternVL", "family_for"]
