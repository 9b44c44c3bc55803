"""Break the source on purpose: the checks against the loops must notice every one of these."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest

from . import closed_set_reference, reference

CHECKS = reference.CHECKS | closed_set_reference.CHECKS
IN_ORDER = ["_inputs", "_divergence", "response", "vanilla", "rda", "smoothing", "branching", "crt"]
IN_ORDER += ["closed_set", "ranking", "csa", "image_ranking"]

MUTANTS = [
    ("vanilla", "_inputs", "return -logits.log_softmax", "return logits.log_softmax"),
    ("vanilla", "_inputs", "masked_fill(~valid.unsqueeze(-1), 0.0)", "masked_fill(valid.unsqueeze(-1), 0.0)"),
    ("vanilla", "_inputs", "promote_types(tensor.dtype, torch.float32)", "promote_types(torch.float16, torch.float32)"),
    ("vanilla", "vanilla", "valid, reduction, normalizer)", "valid, reduction, None)"),
    ("vanilla", "vanilla", "valid, reduction, normalizer)", "valid, 'token', normalizer)"),
    ("vanilla", "vanilla", "valid = labels != ignore_index", "valid = labels > 0"),
    ("rda", "rda", '== "student_first" else', '!= "student_first" else'),
    ("rda", "rda", "kl_divergence(first, second)", "kl_divergence(second, first)"),
    ("rda", "rda", "teacher_logits = teacher_logits.detach()", "pass"),
    ("rda", "rda", "teacher_logits = teacher_logits.detach()", "student_logits = student_logits.detach()"),
    ("rda", "rda", "    if detach_teacher:", "    if not detach_teacher:"),
    ("rda", "rda", "return temperature**2 *", "return"),
    ("rda", "rda", "return temperature**2 *", "return temperature *"),
    ("rda", "rda", "(counted_logits(teacher_logits, taught) / temperature)", "counted_logits(teacher_logits, taught)"),
    ("rda", "rda", 'mask == "none" else', 'mask != "none" else'),
    ("rda", "rda", "(teacher_logits.argmax(-1) == labels)", "(teacher_logits.argmax(-1) != labels)"),
    ("rda", "rda", "(teacher_logits.argmax(-1) == labels)", "(student_logits.argmax(-1) == labels)"),
    ("rda", "rda", "(first, second), valid, reduction", "(first, second), taught, reduction"),
    ("smoothing", "smoothing", "smoothing / vocabulary", "smoothing / (vocabulary - 1)"),
    ("smoothing", "smoothing", "(1 - smoothing) * hits", "(1 - smoothing / vocabulary) * hits"),
    ("smoothing", "smoothing", "smoothing / vocabulary).log()", "smoothing / vocabulary)"),
    ("smoothing", "smoothing", "smoothing: float = 0.1", "smoothing: float = 0.2"),
    ("rda", "_divergence", "(log_p - log_q)", "(log_q - log_p)"),
    ("rda", "_divergence", "(log_p - log_q)", "(-log_q)"),
    ("rda", "_divergence", "p = log_p.exp()", "p = log_p.exp().detach()"),
    ("rda", "_divergence", "p = log_p.exp()", "p = log_q.exp()"),
    ("rda", "_divergence", "0.0)).sum(-1)", "0.0)).mean(-1)"),
    ("crt", "crt", "(positive - negative)", "(negative - positive)"),
    ("crt", "crt", "(positive - negative)", "(positive + negative)"),
    ("crt", "crt", "(positive - negative)", "(positive - negative.detach())"),
    ("crt", "crt", "(positive - negative)", "positive"),
    ("crt", "crt", "return positions & mask", "return positions"),
    ("crt", "crt", "return positions & mask", "return positions & ~mask"),
    ("crt", "crt", "positions = positions & branching_mask", "positions = positions & ~branching_mask"),
    ("crt", "crt", 'if tokens == "branching" and', 'if tokens == "all" and'),
    ("branching", "branching", "> 1 for t", "> 0 for t"),
    ("branching", "branching", "followers[label[:t]].add", "followers[label[:1]].add"),
    ("branching", "branching", "self.ignore_index and next(marks)", "self.ignore_index and not next(marks)"),
    ("response", "response", "logits[..., :-1, :], input", "logits[..., 1:, :], input"),
    ("response", "response", "input_ids_labels[..., 1:]", "input_ids_labels[..., :-1]"),
    ("response", "response", "predicted = labels[:, 1:]", "predicted = labels[:, :-1]"),
    ("response", "response", "gather(1, positions + 1)", "gather(1, positions)"),
    ("response", "response", ".masked_fill(~mask, ignore_index)", ""),
    ("response", "response", "lengths.max()", "lengths.min()"),
    ("means", "response", "mask.any(-1).sum()", "mask.all(-1).sum()"),
    ("means", "response", "kept.sum(-1) / mask.sum(-1).clamp(min=1)", "kept.mean(-1)"),
    ("means", "response", "kept.sum() / count.clamp(min=1)", "kept.sum()"),
    ("means", "response", "kept.sum() / _denominator(normalizer, kept)", "kept.sum() / count.clamp(min=1)"),
    ("means", "response", "masked_fill(~mask, 0.0)", "masked_fill(mask, 0.0)"),
    ("positions", "closed_set", "candidates.sum(-1, keepdim=True) > 1", "candidates.sum(-1, keepdim=True) > 0"),
    ("positions", "closed_set", "holders.any(-2) & others.any(-2)", "holders.any(-2) | others.any(-2)"),
    ("positions", "closed_set", "holders.any(-2) & others.any(-2)", "holders.any(-2)"),
    ("positions", "closed_set", "candidates & membership,", "membership.expand(*candidates.shape[:2], -1),"),
    ("positions", "closed_set", "open_labels & mask.unsqueeze(-1)", "open_labels"),
    ("positions", "closed_set", "open_labels & mask.unsqueeze(-1)", "open_labels & ~mask.unsqueeze(-1)"),
    ("log odds", "closed_set", "candidates & ~membership", "candidates"),
    ("log odds", "closed_set", "candidates & ~membership", "~membership.expand(*candidates.shape[:2], -1)"),
    ("log odds", "closed_set", "candidates & membership,", "membership.expand(*candidates.shape[:2], -1),"),
    ("log odds", "closed_set", "holders) - _log_sum(logits, others)", "holders)"),
    ("log odds", "closed_set", "_log_sum(logits, holders) -", "-_log_sum(logits, holders) +"),
    ("log odds", "closed_set", "masked_fill(~candidates, 0.0) / temperature", "masked_fill(~candidates, 0.0)"),
    ("log odds", "closed_set", "masked_fill(~candidates, 0.0) / temp", "masked_fill(~candidates, 0.0) * temp"),
    ("log odds", "closed_set", ".logsumexp(-2)", ".amax(-2)"),
    ("log odds", "closed_set", ".logsumexp(-2)", ".exp().sum(-2)"),
    ("log odds", "closed_set", "masked_fill(~others.any(-2), torch.inf)", "masked_fill(~others.any(-2), 0.0)"),
    ("ranking", "ranking", "token_nll(scores / temperature", "token_nll(scores"),
    ("ranking", "ranking", "token_nll(scores / temperature", "token_nll(scores.log_softmax(0) / temperature"),
    ("ranking", "ranking", "token_nll(scores / temperature", "token_nll(scores * temperature"),
    ("ranking", "ranking", "membership, temperature)", "membership)"),
    ("ranking", "ranking", "return masked_mean", "return temperature**2 * masked_mean"),
    ("ranking", "ranking", "truth = targets", "truth = 1 - targets"),
    ("ranking", "ranking", "membership=membership, mask=mask)", "membership=membership)"),
    ("ranking", "ranking", '"sequence", normalizer)', '"token", normalizer)'),
    ("ranking", "ranking", '"sequence", normalizer)', '"sequence")'),
    ("ranking", "closed_set", "candidates & ~membership", "candidates"),
    ("csa", "csa", "kl_divergence(teacher, student)", "kl_divergence(student, teacher)"),
    (
        "csa",
        "csa",
        "(_log_coin(teacher_logits), _log_coin(log_odds))",
        "(_log_coin(log_odds), _log_coin(teacher_logits))",
    ),
    ("csa", "csa", "teacher_logits.detach()", "teacher_logits"),
    ("csa", "csa", "0.0) / teacher_temperature", "0.0)"),
    ("csa", "csa", "0.0) / teacher_temperature", "0.0) / temperature"),
    ("csa", "csa", "(scores / temperature)", "(scores / teacher_temperature)"),
    ("csa", "csa", "membership, temperature)", "membership, teacher_temperature)"),
    ("csa", "csa", "return temperature**2 *", "return"),
    ("csa", "csa", "return temperature**2 *", "return temperature *"),
    ("csa", "csa", "return temperature**2 *", "return teacher_temperature**2 *"),
    ("csa", "csa", "return temperature**2 *", "return temperature * teacher_temperature *"),
    ("csa", "csa", "(scores / temperature).log_softmax(-1)", "(scores / temperature).log_softmax(0)"),
    ("csa", "csa", "-torch.inf).log_softmax(-1)", "-torch.inf).log_softmax(0)"),
    ("csa", "csa", "teacher_logits.masked_fill(scores.isneginf(), -torch.inf)", "teacher_logits"),
    ("csa", "csa", "logsigmoid(-log_odds)", "logsigmoid(log_odds)"),
    ("csa", "csa", "membership=membership, mask=mask)", "membership=membership)"),
    ("csa", "csa", '"sequence", normalizer)', '"token", normalizer)'),
    ("csa", "csa", '"sequence", normalizer)', '"sequence")'),
    ("csa", "closed_set", "candidates & ~membership", "candidates"),
    ("csa", "_divergence", "(log_p - log_q)", "(-log_q)"),
    ("image ranking", "image_ranking", "(targets.unsqueeze(-1) != targets)", "(targets.unsqueeze(-1) == targets)"),
    ("image ranking", "image_ranking", "scored & (targets.unsqueeze(-1) != targets)", "scored"),
    ("image ranking", "image_ranking", "negatives | torch.diag(own)", "negatives"),
    ("image ranking", "image_ranking", "own & negatives.any(0)", "own"),
    ("image ranking", "image_ranking", "own & negatives.any(0)", "own & negatives.any(1)"),
    ("image ranking", "image_ranking", "own & negatives.any(0)", "negatives.any(0)"),
    ("image ranking", "image_ranking", "scored & mask.unsqueeze(-1)", "scored & mask"),
    ("image ranking", "image_ranking", "scored & mask.unsqueeze(-1)", "scored"),
    ("image ranking", "image_ranking", "masked_fill(~compared, 0.0) / temperature", "masked_fill(~compared, 0.0)"),
    ("image ranking", "image_ranking", ".logsumexp(0)", ".logsumexp(1)"),
    ("image ranking", "image_ranking", "total - logits.diagonal()", "total"),
    ("image ranking", "image_ranking", "taught, normalizer=normalizer)", "taught)"),
    ("image ranking", "image_ranking", "return masked_mean(total", "return temperature * masked_mean(total"),
]


def rebuild(broken: str = "", old: str = "", new: str = "") -> SimpleNamespace:
    """The public functions, executed anew from source, with `old` replaced by `new` in the module `broken`."""
    public = {}
    with mock.patch.dict(sys.modules):
        for short in IN_ORDER:
            name = f"vitask.losses.{short}"
            source = Path(importlib.import_module(name).__file__).read_text()
            if short == broken:
                assert old in source, f"{short}.py no longer holds {old!r}: update the mutant"
                source = source.replace(old, new)
            module = ModuleType(name)
            module.__package__ = "vitask.losses"
            sys.modules[name] = module
            exec(compile(source, f"<mutant of {short}>", "exec"), vars(module))
            public |= vars(module)
    return SimpleNamespace(**public)


@pytest.mark.parametrize("check", CHECKS)
def test_the_unbroken_copy_passes(check):
    CHECKS[check](rebuild())


@pytest.mark.parametrize(("check", "broken", "old", "new"), MUTANTS)
def test_the_loops_notice(check, broken, old, new):
    mutant = rebuild(broken, old, new)
    with pytest.raises(AssertionError):
        CHECKS[check](mutant)
