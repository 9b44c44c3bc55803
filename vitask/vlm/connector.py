"""The TSM connector: maps exemplars into the LLM's embedding space (paper, section 2, exemplar prompting)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

CONNECTORS = ("mlp", "linear")


class Connector(nn.Module):
    """Maps TSM features `(B, K, exemplar_dim)` to LLM embeddings `(B, K, llm_dim)`.

    The paper does not describe the connector. `mlp` (LayerNorm, Linear, GELU, Linear) mirrors the projector that
    InternVL puts between its own vision tower and its LLM; `linear` (LayerNorm, Linear) is the smallest choice.

    Args:
        exemplar_dim: width of the TSM's features.
        llm_dim: width of the LLM's token embeddings, also the hidden width of `mlp`.
        kind: `"mlp"` or `"linear"`.

    Raises:
        ValueError: the kind is unknown.

    Example:
        >>> Connector(96, 128)(torch.randn(2, 1, 96)).shape
        torch.Size([2, 1, 128])
    """

    def __init__(self, exemplar_dim: int, llm_dim: int, kind: str = "mlp") -> None:
        super().__init__()
        if kind not in CONNECTORS:
            raise ValueError(f"connector kind must be one of {', '.join(CONNECTORS)}, not '{kind}'")
        self.norm = nn.LayerNorm(exemplar_dim)
        if kind == "mlp":
            self.project = nn.Sequential(nn.Linear(exemplar_dim, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim))
        else:
            self.project = nn.Linear(exemplar_dim, llm_dim)

    def forward(self, exemplars: Tensor) -> Tensor:
        """Map `(B, K, exemplar_dim)` to `(B, K, llm_dim)`."""
        return self.project(self.norm(exemplars))
