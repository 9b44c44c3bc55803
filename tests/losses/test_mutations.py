"""Break the source on purpose: the checks against the loops must notice every one of these."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest

from .reference import CHECKS

IN_ORDER = ["_inputs", "response", "vanilla", "rda", "branching", "crt"]

MUTANTS = [
    ("vanilla", "_inputs", "return -logits.log_softmax", "return logits.log_softmax"),
    ("vanilla", "_inputs", "masked_fill(~valid.unsqueeze(-1), 0.0)", "masked_fill(valid.unsqueeze(-1), 0.0)"),
    ("vanilla", "_inputs", "promote_types(tensor.dtype, torch.float32)", "promote_types(torch.float16, torch.float32)"),
    ("vanilla", "vanilla", "valid, reduction, normalizer)", "valid, reduction, None)"),
    ("vanilla", "vanilla", "valid, reduction, normalizer)", "valid, 'token', normalizer)"),
    ("vanilla", "vanilla", "valid = labels != ignore_index", "valid = labels > 0"),
    ("rda", "rda", '== "student_first" else', '!= "student_first" else'),
    ("rda", "rda", "teacher_logits = teacher_logits.detach()", "pass"),
    ("rda", "rda", "teacher_logits = teacher_logits.detach()", "student_logits = student_logits.detach()"),
    ("rda", "rda", "    if detach_teacher:", "    if not detach_teacher:"),
    ("rda", "rda", "return temperature**2 *", "return"),
    ("rda", "rda", "return temperature**2 *", "return temperature *"),
    ("rda", "rda", "(counted_logits(teacher_logits, valid) / temperature)", "counted_logits(teacher_logits, valid)"),
    ("rda", "rda", "(log_p - log_q)", "(log_q - log_p)"),
    ("rda", "rda", "(log_p - log_q)", "(-log_q)"),
    ("rda", "rda", "p = log_p.exp()", "p = log_p.exp().detach()"),
    ("rda", "rda", "p = log_p.exp()", "p = log_q.exp()"),
    ("rda", "rda", "0.0)).sum(-1)", "0.0)).mean(-1)"),
    ("crt", "crt", "(positive - negative)", "(negative - positive)"),
    ("crt", "crt", "(positive - negative)", "(positive + negative)"),
    ("crt", "crt", "(positive - negative)", "(positive - negative.detach())"),
    ("crt", "crt", "(positive - negative)", "positive"),
    ("crt", "crt", "return positions & mask", "return positions"),
    ("crt", "crt", "return positions & mask", "return positions & ~mask"),
    ("crt", "crt", "positions = positions & branching_mask", "positions = positions & ~branching_mask"),
    ("crt", "crt", 'if tokens == "branching":', 'if tokens == "all":'),
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
