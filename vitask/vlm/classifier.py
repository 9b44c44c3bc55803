"""A linear head on a VLM: labels from the hidden state that would begin an answer, without any answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vitask.vlm.inputs import make_branch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter


class VLMClassifier(nn.Module):
    """The usual route from a language model to a classifier, the control against answering in words.

    The decoder's last hidden state at the last token of the prompt, the one that predicts an answer's first token, goes
    through one linear layer. Image and instruction are what an answering VLM is given; there is no exemplar.

    Args:
        vlm: the model, adapted or not.
        labels: outputs of the head.

    Example:
        >>> classifier = VLMClassifier(vlm, 10)
        >>> classifier({**stack_images(prompts, prompter), "prompts": prompt_branch(prompts, prompter)}).shape
        torch.Size([2, 10])
    """

    def __init__(self, vlm: ExemplarVLM, labels: int) -> None:
        super().__init__()
        self.vlm = vlm
        self.classifier = nn.Linear(vlm.base.get_output_embeddings().weight.shape[1], labels)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the logits `(B, labels)`.

        Args:
            batch: `prompts` (see `prompt_branch`), and the images as `ExemplarVLM.forward` takes them.
        """
        branch = batch["prompts"]
        inputs = self.vlm.decoder_inputs(branch, self.vlm.image_features(batch))
        hidden = self.vlm.decode(inputs, branch["attention_mask"])
        last = branch["attention_mask"].sum(1) - 1
        states = hidden[torch.arange(len(hidden), device=hidden.device), last]
        return self.classifier(states.to(self.classifier.weight.dtype))


def prompt_branch(prompts: Sequence[Prompt], prompter: Prompter) -> dict[str, Any]:
    """Build the branch that ends with the prompt: what `make_branch` gives for an answer of no token."""
    return make_branch(prompts, [()] * len(prompts), None, range(len(prompts)), prompter)
