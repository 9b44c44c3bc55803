"""The exemplar-prompting VLM: a Hugging Face model, a connector, and several branches over one encoded image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from vitask.vlm.connector import Connector
    from vitask.vlm.families import Family
    from vitask.vlm.inputs import Placement


class ExemplarVLM(nn.Module):
    """A VLM whose input may hold exemplars: TSM features, mapped by a connector, among the token embeddings.

    The wrapper computes embeddings itself and hands them to the Hugging Face model, so a branch without exemplar gives
    the logits of the untouched model bit for bit. Images are encoded once and shared by all branches.

    Args:
        vlm: the Hugging Face model, bare or wrapped by peft.
        family: the seam to that model's family.
        connector: maps exemplars to the LLM's width; `None` for a VLM that never sees one.
        placement: where the exemplar stands and how many tokens it takes; given exactly when `connector` is.

    Raises:
        ValueError: only one of `connector` and `placement` is given.
    """

    def __init__(
        self, vlm: nn.Module, family: Family, connector: Connector | None = None, placement: Placement | None = None
    ) -> None:
        super().__init__()
        if (connector is None) != (placement is None):
            raise ValueError("connector and placement come together: give both, or neither")
        self.vlm = vlm
        self.family = family
        self.connector = connector
        self.placement = placement
        self.image_token_id = family.image_token_id(self.base)

    @property
    def base(self) -> PreTrainedModel:
        """The Hugging Face model inside, its layers adapted in place if peft wraps it."""
        return self.vlm.get_base_model() if hasattr(self.vlm, "get_base_model") else self.vlm

    @property
    def image_modules(self) -> list[nn.Module]:
        """The vision tower and the VLM's own projector."""
        return [self.base.get_submodule(path) for path in (self.family.vision_tower, self.family.projector)]

    def train(self, mode: bool = True) -> ExemplarVLM:
        """Switch to training mode, except for image modules in which nothing trains: they keep no dropout."""
        super().train(mode)
        for module in self.image_modules:
            if not any(p.requires_grad for p in module.parameters()):
                module.eval()
        return self

    def encode_images(self, images: Mapping[str, Tensor]) -> Tensor:
        """Return the image embeddings of a batch, `(total image tokens, D)`; no graph is kept for a frozen encoder."""
        frozen = not any(p.requires_grad for module in self.image_modules for p in module.parameters())
        with torch.no_grad() if frozen else nullcontext():
            return self.family.encode_images(self.base, images)

    def embed(
        self, branch: Mapping[str, Tensor], image_features: Sequence[Tensor], exemplars: Tensor | None = None
    ) -> Tensor:
        """Embed a branch's tokens and put image embeddings and exemplars in their places.

        Args:
            branch: `input_ids (B, T)`, and `image_index (B,)`, the image of each row, unless no row holds an image;
                `exemplar_mask (B, T)` marks the exemplar's slots.
            image_features: one `(tokens, D)` tensor an image.
            exemplars: connector outputs `(B, K, D)`, if the branch has slots.

        Returns:
            Embeddings `(B, T, D)`.
        """
        embeddings = self.base.get_input_embeddings()(branch["input_ids"])
        if "image_index" in branch:
            rows = torch.cat([image_features[i] for i in branch["image_index"].tolist()])
            places = (branch["input_ids"] == self.image_token_id).unsqueeze(-1)
            embeddings = embeddings.masked_scatter(places, rows.to(embeddings.dtype))
        if exemplars is not None:
            places = branch["exemplar_mask"].unsqueeze(-1)
            embeddings = embeddings.masked_scatter(places, exemplars.to(embeddings.dtype))
        return embeddings

    def decode(self, embeddings: Tensor, attention_mask: Tensor, **options: Any) -> Any:
        """Run the language model on embeddings `(B, T, D)`; the Hugging Face output holds `last_hidden_state`."""
        options.setdefault("use_cache", False)
        return self.base.base_model(inputs_embeds=embeddings, attention_mask=attention_mask, **options)

    def head(self, hidden: Tensor) -> Tensor:
        """Map hidden states `(..., D)` to vocabulary logits `(..., V)`."""
        return self.base.get_output_embeddings()(hidden)

    def branch_inputs(self, batch: Mapping[str, Any], names: Iterable[str]) -> dict[str, Tensor]:
        """Embed several branches of a batch, encoding its images and mapping its exemplars only if a branch asks."""
        chosen = {name: batch["branches"][name] for name in names}
        features: Sequence[Tensor] = ()
        if any("image_index" in branch for branch in chosen.values()):
            features = self.encode_images(batch["images"]).split(batch["image_tokens"])
        return {
            name: self.embed(branch, features, self.connector(batch["exemplars"]) if name == "exemplar" else None)
            for name, branch in chosen.items()
        }

    def forward(self, batch: Mapping[str, Any], names: Iterable[str]) -> dict[str, Tensor]:
        """Compute the response logits of several branches, one forward pass of the language model each.

        Args:
            batch: `branches` (by name: `input_ids`, `attention_mask`, `exemplar_mask` `(B, T)`, `answer_positions`
                `(B, R)`, `image_index (B,)`), `images` (the processor's image inputs of all distinct images),
                `image_tokens` (their numbers of embeddings) and `exemplars (B, K, exemplar_dim)`.
            names: the branches to compute, of `vanilla`, `exemplar`, `negative`.

        Returns:
            Logits `(B, R, V)` by branch; entry `r` predicts response token `r`, whatever the branch's prefix.
        """
        logits = {}
        for name, embeddings in self.branch_inputs(batch, names).items():
            branch = batch["branches"][name]
            hidden = self.decode(embeddings, branch["attention_mask"]).last_hidden_state
            positions = branch["answer_positions"].unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
            logits[name] = self.head(hidden.gather(1, positions))
        return logits
