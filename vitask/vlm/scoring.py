"""What a tuned VLM answers: the likelihood of every response of a closed set, or a greedily generated text."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vitask.vlm.model import ExemplarVLM

MAX_ROWS = 1024


@torch.no_grad()
def score_responses(
    vlm: ExemplarVLM, batch: Mapping[str, Any], name: str, responses: Sequence[Sequence[int]]
) -> Tensor:
    """Compute the log-likelihood of every response of a closed set, for every row of a branch without response.

    The prefix is computed once; its keys and values serve all responses, in chunks of at most `MAX_ROWS` rows.

    Args:
        vlm: the model, in evaluation mode.
        batch: as `ExemplarVLM.forward` takes it, padded on the right, its sequences ending with the assistant tag.
        name: the branch: `vanilla` without, `exemplar` with the exemplar.
        responses: token ids of each response, with the token that ends it.

    Returns:
        `(B, K)` float32, the sum of log p over each response's tokens.
    """
    branch = batch["branches"][name]
    mask = branch["attention_mask"]
    lengths = mask.sum(-1)
    out = vlm.decode(vlm.branch_inputs(batch, [name])[name], mask, use_cache=True)
    last = out.last_hidden_state[torch.arange(len(mask)), lengths - 1]
    first = vlm.head(last).float().log_softmax(-1)
    chunk = max(1, MAX_ROWS // len(mask))
    scores = [
        _continue(vlm, out.past_key_values, mask, lengths, first, responses[start : start + chunk])
        for start in range(0, len(responses), chunk)
    ]
    return torch.cat(scores, dim=1)


def _continue(
    vlm: ExemplarVLM, prefix: Any, mask: Tensor, lengths: Tensor, first: Tensor, responses: Sequence[Sequence[int]]
) -> Tensor:
    """Log-likelihood of a chunk of responses behind one shared prefix."""
    rows, count, longest = len(mask), len(responses), max(map(len, responses))
    ids = torch.zeros(count, longest, dtype=torch.long, device=mask.device)
    valid = torch.zeros_like(ids, dtype=torch.bool)
    for row, response in enumerate(responses):
        ids[row, : len(response)] = torch.tensor(response, device=mask.device)
        valid[row, : len(response)] = True
    scores = first[:, ids[:, 0]]
    if longest == 1:
        return scores
    cache = copy.deepcopy(prefix)
    cache.batch_repeat_interleave(count)
    inputs, targets = ids[:, :-1].repeat(rows, 1), ids[:, 1:].repeat(rows, 1)
    seen = valid[:, :-1].repeat(rows, 1)
    hidden = vlm.decode(
        vlm.base.get_input_embeddings()(inputs),
        torch.cat([mask.repeat_interleave(count, 0), seen.to(mask.dtype)], dim=1),
        position_ids=lengths.repeat_interleave(count)[:, None] + torch.arange(longest - 1, device=mask.device),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    log_p = vlm.head(hidden).float().log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    rest = log_p.where(valid[:, 1:].repeat(rows, 1), torch.zeros_like(log_p)).sum(-1)
    return scores + rest.view(rows, count)


@torch.no_grad()
def generate(
    vlm: ExemplarVLM, batch: Mapping[str, Any], name: str, *, max_new_tokens: int, end_id: int, pad_id: int
) -> list[list[int]]:
    """Answer greedily; the batch is padded on the left. Returns the new ids of each row, without end and padding."""
    out = vlm.base.generate(
        inputs_embeds=vlm.branch_inputs(batch, [name])[name],
        attention_mask=batch["branches"][name]["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,  # some checkpoints bring their own, which would not be greedy
        eos_token_id=end_id,
        pad_token_id=pad_id,
    )
    return [row[: row.index(end_id)] if end_id in row else row for row in out.tolist()]
