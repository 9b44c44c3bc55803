"""What a user may choose about any data set, whatever its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitask.data.labels import LabelFile, read_label_file


@dataclass(frozen=True)
class DataOptions:
    """Choices that hold for tables, hub sets, folders and the sets built on them; sources take them as keywords.

    Attributes:
        label_texts: Label texts of your own: by the name in the data, or a list in canonical order.
        label_file: A YAML file of texts, synonyms and definitions, see `vitask.data.labels`.
        raw_labels: Use the data's own names, not the texts that this package ships.
        separator: What joins the labels of one multi-label answer.
        no_finding: The answer for an image without labels.
        fractions: Of train, val and test, where the source has no splits; ``(0, 0, 1)`` puts everything into test.
        split_seed: Seed of that split; no other seed changes it.
        split_names: The source's own names of ``train``, ``val`` and ``test``; each a name or a list of them.
        size: Shrink images once so that their shorter side is this; None keeps them.
        skip_corrupt: Leave out images that do not decode and say how many, instead of raising.
        allow_missing: Let a class be without images in a split.
        ordinal: Whether the labels are ordered grades; None: what the source or the label file says.
        cache_dir: Where converted images go; by default ``vitask`` in the cache folder of ``datasets``.
    """

    label_texts: Mapping[str, str] | Sequence[str] | None = None
    label_file: str | Path | None = None
    raw_labels: bool = False
    separator: str = ", "
    no_finding: str = "no finding"
    fractions: Sequence[float] = (0.6, 0.2, 0.2)
    split_seed: int = 0
    split_names: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    size: int | None = None
    skip_corrupt: bool = False
    allow_missing: bool = False
    ordinal: bool | None = None
    cache_dir: str | Path | None = None

    def labels(self) -> LabelFile:
        """Read the label file, if there is one."""
        return read_label_file(self.label_file) if self.label_file else LabelFile()
