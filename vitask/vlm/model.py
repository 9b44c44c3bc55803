"""The exemplar-prompting VLM: a Hugging Face model, a connector, and several branches over one encoded image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vitask.vlm.packed import packed_outputs
from vitask.vlm.plain import plain_outputs

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
        original: of a model that is tuned without an adapter, reads its weights of before, by name.
        base_digest: of the weights before tuning, by which they are known again.

    Raises:
        ValueError: only one of `connector` and `placement` is given.
    """

    def __init__(
        self,
        vlm: nn.Module,
        family: Family,
        connector: Connector | None = None,
        placement: Placement | None = None,
        original: Callable[[], Mapping[str, Tensor]] | None = None,
        base_digest: str | None = None,
    ) -> None:
        super().__init__()
        if (connector is None) != (placement is None):
            raise ValueError("connector and placement come together: give both, or neither")
        self.vlm = vlm
        self.family = family
        self.connector = connector
        self.placement = placement
        self.original = original
        self.base_digest = base_digest
        self.image_token_id = family.image_token_id(self.base.config)

    @property
    def base(self) -> PreTrainedModel:
        """The Hugging Face model inside, its layers adapted in place if peft wraps it."""
        return self.vlm.get_base_model() if hasattr(self.vlm, "get_base_model") else self.vlm

    def untuned(self) -> AbstractContextManager:
        """Answer as before tuning: within this context, whatever peft has trained is off, or tuned weights are."""
        if hasattr(self.vlm, "disable_adapter"):
            return self.vlm.disable_adapter()
        return with_weights(self.vlm, self.original()) if self.original else nullcontext()

    @property
    def decoder(self) -> nn.Module:
        """The language model without its head."""
        return self.base.get_submodule(self.family.language_model)

    @property
    def image_modules(self) -> list[nn.Module]:
        """The vision tower and the VLM's own projector."""
        return [self.base.get_submodule(path) for path in (self.family.vision_tower, *self.family.projector)]

    def train(self, mode: bool = True) -> ExemplarVLM:
        """Switch to training mode, except for image modules in which nothing trains: they keep no dropout."""
        super().train(mode)
        for module in (part for whole in self.image_modules for part in whole.modules()):
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()
        return self

    def encode_images(self, images: Mapping[str, Tensor]) -> Tensor:
        """Return the image embeddings of a batch, `(total image tokens, L, D)`, L being 1 for most families.

        No graph is kept for a frozen encoder.
        """
        frozen = not any(p.requires_grad for module in self.image_modules for p in module.parameters())
        with torch.no_grad() if frozen else nullcontext():
            return self.family.encode_images(self.base, images)

    def image_features(self, batch: Mapping[str, Any]) -> Sequence[Tensor]:
        """Return the features of each image of a batch: those that it brings along, or else freshly encoded ones."""
        features = batch["image_features"] if "image_features" in batch else self.encode_images(batch["images"])
        return features.split(batch["image_tokens"])

    def decoder_inputs(
        self, tokens: Mapping[str, Any], image_features: Sequence[Tensor], exemplars: Tensor | None = None
    ) -> dict[str, Any]:
        """Embed tokens and put image embeddings and exemplars in their places.

        Args:
            tokens: `input_ids (B, T)` and `position_ids (P, B, T)`; `image_index`, the image of each row that holds
                one, if any does; `exemplar_mask (B, T)` marks the exemplar's slots.
            image_features: one `(tokens, L, D)` tensor an image.
            exemplars: connector outputs `(N, K, D)` for the rows that have slots, in order.

        Returns:
            The decoder's arguments but for the attention mask.
        """
        embeddings = self.base.get_input_embeddings()(tokens["input_ids"])
        options: dict[str, Any] = {}
        if tokens.get("image_index"):
            features = torch.cat([image_features[i] for i in tokens["image_index"]]).to(embeddings)
            places = tokens["input_ids"] == self.image_token_id
            embeddings = embeddings.masked_scatter(places.unsqueeze(-1), features[:, 0])
            options = self.family.decoder_options(places, features[:, 1:])
        if exemplars is not None:
            places = tokens["exemplar_mask"].unsqueeze(-1)
            embeddings = embeddings.masked_scatter(places, exemplars.to(embeddings.dtype))
        positions = tokens["position_ids"]
        positions = positions[0] if len(positions) == 1 else positions
        return {"inputs_embeds": embeddings, "position_ids": positions, **options}

    def decode(self, inputs: Mapping[str, Any], attention_mask: Tensor) -> Tensor:
        """Run the decoder on what `decoder_inputs` gives; return its last hidden states `(B, T, D)`."""
        return self.decoder(**inputs, attention_mask=attention_mask, use_cache=False).last_hidden_state

    def head(self, hidden: Tensor) -> Tensor:
        """Map hidden states `(..., D)` to vocabulary logits `(..., V)`."""
        return self.base.get_output_embeddings()(hidden)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Compute what the batch asks for, in its own form.

        Args:
            batch: either `branches` (see `plain_outputs`) or `packed` (see `packed_outputs`), with what both share:
                `images` (the processor's image inputs of all distinct images) or `image_features`, `image_tokens`
                (their numbers of embeddings) and `exemplars (N, K, exemplar_dim)`.

        Returns:
            Logits `(B, R, V)` by branch (`vanilla`, `exemplar`, `negative`); entry `r` predicts response token `r`,
            whatever stands before it. `labels`, if asked for: the log-likelihoods `(B, K)` of a closed set.
        """
        return (packed_outputs if "packed" in batch else plain_outputs)(self, batch)


@contextmanager
def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Put other weights into a model, and its own back at the end."""
    own = {name: model.get_parameter(name).detach().cpu().clone() for name in weights}
    try:
        put_weights(model, weights)
        yield
    finally:
        put_weights(model, own)


@torch.no_grad()
def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy tensors into the parameters of their names.

    Raises:
        ValueError: a shape is another.
    """
    for name, tensor in weights.items():
        parameter = model.get_parameter(name)
        if parameter.shape != tensor.shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(parameter.shape)}")
        parameter.copy_(tensor)
