"""Where exemplars come from: the TSM, a table of somebody else's vectors, or, as controls, other images or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from vitask.errors import UsageError, VitaskError
from vitask.tsm.exemplar_file import ExemplarTable
from vitask.tsm.exemplars import cached_exemplars, compute_exemplars
from vitask.tsm.model import TSM
from vitask.tsm.transforms import build_transform


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images that exemplars are asked for.

    Attributes:
        images: PIL images by index.
        names: what each image may be called, the likeliest name first; `names[i][0]` is shown in errors.
        sets: the rows of each data set, one range behind the other.
        fingerprint: what identifies the images, to keep exemplars on disk; None for images of no data set.
    """

    images: Sequence[Image.Image]
    names: Sequence[Sequence[str]]
    sets: Sequence[range]
    fingerprint: str | None = None


class ExemplarSource(Protocol):
    """Gives exemplars `(K, D)` float32 for each of a set of images.

    Attributes:
        title: what gives them, for errors.
        num_tokens: K.
        feature_dim: D.
    """

    title: str
    num_tokens: int
    feature_dim: int

    def __call__(self, shown: ImageSet) -> Sequence[Tensor]:
        """Return the exemplar of every image, by index."""


class TSMExemplars:
    """Features of a frozen TSM, kept on disk for the images of a data set (paper, section 2).

    Args:
        tsm: the model.
        kind: `cls` (EP_cls) or `patches` (EP_all).
        cache_dir: where they are kept.
        device: where the model runs.
        batch_size: images in one forward pass.
        workers: processes that read and transform images.

    Example:
        >>> source = TSMExemplars(tsm, "cls", cache_dir="~/.cache/vitask/exemplars")
        >>> source(shown)[0].shape, source.table(shown).logits.shape
        (torch.Size([1, 96]), torch.Size([719, 10]))
    """

    title = "the TSM"

    def __init__(
        self,
        tsm: TSM,
        kind: str,
        *,
        cache_dir: str | Path,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        workers: int = 0,
    ) -> None:
        self.tsm = tsm
        self.num_tokens, self.feature_dim = tsm.num_tokens(kind), tsm.feature_dim(kind)
        self.cache_dir = cache_dir
        self._options: dict[str, Any] = {
            "kind": kind,
            "transform": build_transform(tsm.data_config, None, training=False),
            "device": device,
            "batch_size": batch_size,
            "workers": workers,
        }
        self._tables: WeakKeyDictionary[ImageSet, ExemplarTable] = WeakKeyDictionary()

    def __call__(self, shown: ImageSet) -> Tensor:
        """Return the features of every image, `(N, K, D)`."""
        return self.table(shown).features

    def table(self, shown: ImageSet) -> ExemplarTable:
        """Return features and logits of every image; asked again while the images are in use, the same table."""
        if shown not in self._tables:
            self._tables[shown] = self._compute(shown)
        return self._tables[shown]

    def logits(self, shown: ImageSet) -> Tensor | None:
        """Return the TSM's logits of every image, `(N, num_classes)`; None when it has no head."""
        return self.table(shown).logits if self.tsm.num_classes else None

    def _compute(self, shown: ImageSet) -> ExemplarTable:
        if shown.fingerprint is None:
            return compute_exemplars(self.tsm, shown.images, **self._options)
        kept = {"data_fingerprint": shown.fingerprint, "cache_dir": self.cache_dir}
        return cached_exemplars(self.tsm, shown.images, **self._options, **kept)


class VectorExemplars:
    """Vectors that somebody else's model gave, found by the images' names.

    Args:
        title: of the table.
        ids: a name for each vector.
        values: `(N, K, D)` float32.
    """

    def __init__(self, title: str, ids: Sequence[str], values: Tensor) -> None:
        self.title = title
        self.values = values
        self.num_tokens, self.feature_dim = values.shape[1:]
        self._rows = {name: row for row, name in enumerate(ids)}

    def __call__(self, shown: ImageSet) -> Rows:
        """Return the vectors of every image.

        Raises:
            VitaskError: an image is not in the table, or two images go by the same name there.
        """
        found = [next((name for name in names if name in self._rows), None) for names in shown.names]
        missing = [names[0] for names, name in zip(shown.names, found, strict=True) if name is None]
        if missing:
            example = next(iter(self._rows))
            raise VitaskError(
                f"{self.title}: has no vector of {len(missing)} of {len(found)} images, the first is '{missing[0]}'; "
                f"its own ids are like '{example}'; it must hold every image that is shown with its exemplar"
            )
        twice = [name for name, count in Counter(found).items() if count > 1]
        if twice:
            raise VitaskError(f"{self.title}: the id '{twice[0]}' fits several images, so it is not clear whose it is")
        return Rows(self.values, [self._rows[name] for name in found])


class ShuffledExemplars:
    """Each image with the exemplar of another image of its data set: does the content of the exemplar matter?

    Args:
        source: of the exemplars.
        seed: of the order, which is one random circle through all images of a data set.
    """

    def __init__(self, source: ExemplarSource, seed: int) -> None:
        self.source = source
        self.title = source.title
        self.num_tokens, self.feature_dim = source.num_tokens, source.feature_dim
        self.seed = seed

    def __call__(self, shown: ImageSet) -> Rows:
        """Return another image's exemplar for every image.

        Raises:
            UsageError: a data set has one image alone.
        """
        other = np.zeros(len(shown.names), dtype=int)
        for number, rows in enumerate(shown.sets):
            if len(rows) == 1:
                raise UsageError("exemplar.content=shuffled: a data set of one image has no other image's exemplar")
            circle = np.random.default_rng([self.seed, number]).permutation(np.arange(rows.start, rows.stop))
            other[circle] = np.roll(circle, -1)
        return Rows(self.source(shown), other.tolist())


class ConstantExemplars:
    """The same vectors for every image: what is left of exemplar prompting is K tokens that learn.

    Behind the connector this is prompt tuning: rows that are trained and do not depend on the input, as in peft's
    `PromptEmbedding`. peft puts its rows before the whole sequence and widens the attention mask for them, for every
    forward pass of the model; here they stand where the exemplar would, in the branches that see one.

    The vectors have length 1 and stand at right angles to each other (as far as D allows); their values have mean 0, so
    that the connector's norm keeps their direction.

    Args:
        num_tokens: K.
        feature_dim: D, 2 at least.
    """

    title = "the constant exemplar"

    def __init__(self, num_tokens: int, feature_dim: int) -> None:
        self.num_tokens, self.feature_dim = num_tokens, feature_dim
        waves = torch.arange(num_tokens).remainder(feature_dim - 1) + 1
        angles = pi / feature_dim * torch.outer(waves, torch.arange(feature_dim) + 0.5)
        self.vectors = normalize(angles.double().cos(), dim=-1).float()

    def __call__(self, shown: ImageSet) -> Rows:
        """Return the same `(K, D)` for every image."""
        return Rows(self.vectors[None], [0] * len(shown.names))


class Rows(Sequence):
    """Items of a sequence in another order, each looked up when it is asked for."""

    def __init__(self, items: Sequence[Tensor] | Tensor, rows: Sequence[int]) -> None:
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.items[self.rows[index]]


CONTENTS: dict[str, Callable[[ExemplarSource, int], ExemplarSource]] = {
    "image": lambda source, seed: source,
    "shuffled": ShuffledExemplars,
    "constant": lambda source, seed: ConstantExemplars(source.num_tokens, source.feature_dim),
}
"""What the exemplar of an image is about, as a change of a source; the number is a seed."""
