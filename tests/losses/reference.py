"""The losses once more, as loops over Python floats: nothing here but the definitions, `math.exp` and `math.log`.

Sequences are lists: `logits[b][t][v]`, `labels[b][t]`. Gradients follow the analytic formulae, not autograd. The
`check_*` functions compare an implementation (any object with the package's functions as attributes) with the loops,
in values and in gradients; the mutation tests run them on broken copies of the source and want them to fail.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

IGNORE = -100
TOLERANCE = 1e-10
V = 7
CLOSED_SET = [[3, 4, 0], [3, 5, 0], [3, 5, 6, 0], [1, 0], [2, 4, 4, 4, 0]]

Rows = list[list[Any]]
Token = Callable[[int, int], tuple[float, dict[str, list[float]]]]


def log_softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    log_total = top + math.log(math.fsum(math.exp(x - top) for x in logits))
    return [x - log_total for x in logits]


def nll(logits: list[float], label: int) -> tuple[float, list[float]]:
    """-log softmax(x)[y]; its derivative by x_v is softmax(x)_v - [v = y]."""
    log_p = log_softmax(logits)
    return -log_p[label], [math.exp(lp) - (v == label) for v, lp in enumerate(log_p)]


def kl(x: list[float], z: list[float]) -> tuple[float, list[float], list[float]]:
    """KL(p || q) for p = softmax(x), q = softmax(z).

    Derivative by x_v: p_v (log p_v - log q_v - KL). By z_v: q_v - p_v.
    """
    log_p, log_q = log_softmax(x), log_softmax(z)
    value = math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))
    by_x = [math.exp(a) * (a - b - value) for a, b in zip(log_p, log_q, strict=True)]
    by_z = [math.exp(b) - math.exp(a) for a, b in zip(log_p, log_q, strict=True)]
    return value, by_x, by_z


def weights(counted: Rows, reduction: str, normalizer: float | None) -> Rows:
    """The weight of each token in the mean: 1/N, or 1/(tokens of the row)/(rows that have any)."""
    lengths = [sum(row) for row in counted]
    if reduction == "token":
        total = normalizer if normalizer is not None else sum(lengths)
        return [[1 / total if c else 0.0 for c in row] for row in counted]
    total = normalizer if normalizer is not None else sum(n > 0 for n in lengths)
    return [[1 / n / total if c else 0.0 for c in row] for row, n in zip(counted, lengths, strict=True)]


def reduce(token: Token, counted: Rows, reduction: str, normalizer: float | None) -> tuple[float, dict[str, Rows]]:
    """Weighted sum of the token losses and of their gradients, by name of the input."""
    value, gradients = 0.0, {}
    for b, row in enumerate(weights(counted, reduction, normalizer)):
        for t, weight in enumerate(row):
            if not weight:
                continue
            loss, by_input = token(b, t)
            value += weight * loss
            for name, gradient in by_input.items():
                gradients.setdefault(name, {})[b, t] = [weight * g for g in gradient]
    shape = range(len(counted)), range(len(counted[0]))
    return value, {n: [[g.get((b, t), [0.0] * V) for t in shape[1]] for b in shape[0]] for n, g in gradients.items()}


def is_response(labels: Rows) -> Rows:
    return [[label != IGNORE for label in row] for row in labels]


def vanilla(logits: Rows, labels: Rows, reduction: str = "token", normalizer: float | None = None):
    def token(b: int, t: int):
        loss, gradient = nll(logits[b][t], labels[b][t])
        return loss, {"logits": gradient}

    return reduce(token, is_response(labels), reduction, normalizer)


def rda(
    student: Rows,
    teacher: Rows,
    labels: Rows,
    temperature: float = 1.0,
    direction: str = "student_first",
    detach_teacher: bool = True,
    mask: str = "none",
    reduction: str = "token",
    normalizer: float | None = None,
):
    """With `teacher_right`, a token that the teacher does not find likeliest costs 0, and counts all the same."""

    def token(b: int, t: int):
        if mask == "teacher_right" and max(range(V), key=lambda v: teacher[b][t][v]) != labels[b][t]:
            nothing = {"student": [0.0] * V} if detach_teacher else {"student": [0.0] * V, "teacher": [0.0] * V}
            return 0.0, nothing
        s, z = [x / temperature for x in student[b][t]], [x / temperature for x in teacher[b][t]]
        if direction == "student_first":
            loss, by_student, by_teacher = kl(s, z)
        else:
            loss, by_teacher, by_student = kl(z, s)
        # T^2 times the derivative by x / T, times 1 / T
        gradients = {"student": [temperature * g for g in by_student]}
        if not detach_teacher:
            gradients["teacher"] = [temperature * g for g in by_teacher]
        return temperature * temperature * loss, gradients

    return reduce(token, is_response(labels), reduction, normalizer)


def smoothed(labels: Rows, smoothing: float) -> Rows:
    """The probabilities of label smoothing, token by token; uniform on padding."""
    return [
        [
            [1 / V] * V if label == IGNORE else [(1 - smoothing) * (v == label) + smoothing / V for v in range(V)]
            for label in row
        ]
        for row in labels
    ]


def branching(labels: Rows, closed_set: list[list[int]]) -> Rows:
    """Position by position, straight from the sentence that defines it."""
    result = []
    for row in labels:
        seen: list[int] = []
        marks = []
        for label in row:
            if label == IGNORE:
                marks.append(False)
                continue
            nexts = {c[len(seen)] for c in closed_set if c[: len(seen)] == seen and len(c) > len(seen)}
            marks.append(len(nexts) >= 2)
            seen.append(label)
        result.append(marks)
    return result


def crt(
    positive: Rows,
    negative: Rows,
    labels: Rows,
    has_negative: list[bool] | None = None,
    closed_set: list[list[int]] | None = None,
    reduction: str = "token",
    normalizer: float | None = None,
):
    counted = is_response(labels)
    if closed_set is not None:
        counted = branching(labels, closed_set)
    if has_negative is not None:
        counted = [[c and keep for c in row] for row, keep in zip(counted, has_negative, strict=True)]

    def token(b: int, t: int):
        loss, gradient = nll([p - n for p, n in zip(positive[b][t], negative[b][t], strict=True)], labels[b][t])
        return loss, {"positive": gradient, "negative": [-g for g in gradient]}

    return reduce(token, counted, reduction, normalizer)


def leaf(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).requires_grad_()


def ragged_labels() -> Tensor:
    """Rows of 4, 3, 0, 2 and 5 tokens, every one a label of CLOSED_SET; one starts with padding, one is empty."""
    i = IGNORE
    return torch.tensor([[3, 5, 6, 0, i], [i, 3, 4, 0, i], [i, i, i, i, i], [1, 0, i, i, i], [2, 4, 4, 4, 0]])


def assert_close(actual: Any, expected: Any, what: str) -> None:
    actual, expected = torch.as_tensor(actual).detach().double(), torch.as_tensor(expected, dtype=torch.float64)
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    difference = (actual - expected).abs().max().item() if actual.numel() else 0.0
    assert difference <= TOLERANCE, f"{what}: off by {difference}"


def compare(loss: Tensor, expected: tuple[float, dict[str, Rows]], case: str, **inputs: Tensor) -> None:
    """Value and gradients; an input that the reference gives no gradient for must get none."""
    value, gradients = expected
    assert_close(loss, value, f"value ({case})")
    actual = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    for name, gradient in zip(inputs, actual, strict=True):
        if name not in gradients:
            assert gradient is None, f"{name} must get no gradient ({case})"
        else:
            assert gradient is not None, f"{name} must get a gradient ({case})"
            assert_close(gradient, gradients[name], f"gradient by {name} ({case})")


def cases(**options: list) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))


MEANS = {"reduction": ["token", "sequence"], "normalizer": [None, 11]}


def check_vanilla(api: Any) -> None:
    labels = ragged_labels()
    logits = leaf(*labels.shape, V, seed=0)
    for case in cases(**MEANS):
        expected = vanilla(logits.tolist(), labels.tolist(), **case)
        compare(api.vanilla_loss(logits, labels, **case), expected, str(case), logits=logits)


def check_rda(api: Any) -> None:
    labels = ragged_labels()
    student, teacher = leaf(*labels.shape, V, seed=1), leaf(*labels.shape, V, seed=2)
    options = {
        "temperature": [1.0, 2.5],
        "direction": ["student_first", "teacher_first"],
        "detach_teacher": [True, False],
        "mask": ["none", "teacher_right"],
    }
    for case in [{}, *cases(**options, **MEANS)]:
        expected = rda(student.tolist(), teacher.tolist(), labels.tolist(), **case)
        actual = api.rda_loss(student, teacher, labels, **case)
        compare(actual, expected, str(case), student=student, teacher=teacher)


def check_smoothing(api: Any) -> None:
    """The distribution, and RDA taught by it: the loop takes the logs of the loop's own probabilities."""
    labels = ragged_labels()
    student = leaf(*labels.shape, V, seed=1)
    for options in ({}, {"smoothing": 0.3}, {"smoothing": 1.0}):
        teacher = api.smoothed_label_logits(labels, V, **options, dtype=torch.float64)
        p = smoothed(labels.tolist(), options.get("smoothing", 0.1))
        assert_close(teacher.softmax(-1), p, f"probabilities ({options})")
        log_p = [[[math.log(q) for q in token] for token in row] for row in p]
        for case in cases(direction=["student_first", "teacher_first"], temperature=[1.0, 2.5]):
            expected = rda(student.tolist(), log_p, labels.tolist(), **case)
            compare(api.rda_loss(student, teacher, labels, **case), expected, f"{options}, {case}", student=student)


def check_crt(api: Any) -> None:
    labels = ragged_labels()
    positive, negative = leaf(*labels.shape, V, seed=3), leaf(*labels.shape, V, seed=4)
    rows = positive.tolist(), negative.tolist(), labels.tolist()
    inputs = {"positive": positive, "negative": negative}
    for case in cases(tokens=["all", "branching"], has_negative=[None, [True, False, True, True, False]], **MEANS):
        tokens, has_negative = case.pop("tokens"), case.pop("has_negative")
        mask = None if has_negative is None else torch.tensor(has_negative).unsqueeze(-1)
        expected = crt(*rows, has_negative, CLOSED_SET if tokens == "branching" else None, **case)
        loss = api.crt_loss(positive, negative, labels, tokens=tokens, label_tokens=CLOSED_SET, mask=mask, **case)
        compare(loss, expected, f"{tokens}, {has_negative}, {case}", **inputs)
    compare(api.crt_loss(positive, negative, labels), crt(*rows), "defaults", **inputs)


def check_branching(api: Any) -> None:
    labels = ragged_labels()
    expected = branching(labels.tolist(), CLOSED_SET)
    assert api.branching_mask(labels, CLOSED_SET).tolist() == expected
    assert any(map(any, expected)), "the example must branch somewhere"


def check_response(api: Any) -> None:
    """The loops walk the sequence: token t is predicted by the logits at t - 1."""
    i = IGNORE
    labels = [[i, 1, 2, i, i], [i, 3, i, 4, 5], [i, i, i, i, i], [6, i, i, i, 2]]
    logits = leaf(4, 5, V, seed=5)
    found = [[t for t in range(1, 5) if row[t] != i] for row in labels]
    longest = max(map(len, found))
    selected, selected_labels = api.select_response(logits, torch.tensor(labels))
    padded = [[row[t] for t in ts] + [i] * (longest - len(ts)) for row, ts in zip(labels, found, strict=True)]
    assert selected_labels.tolist() == padded
    for b, ts in enumerate(found):
        for r, t in enumerate(ts):
            assert selected[b, r].tolist() == logits[b, t - 1].tolist(), f"row {b}, token {r}"
    shifted, shifted_labels = api.shift_response(logits, torch.tensor(labels))
    assert shifted.tolist() == [row[:-1] for row in logits.tolist()]
    assert shifted_labels.tolist() == [row[1:] for row in labels]


def check_means(api: Any) -> None:
    values = leaf(4, 3, seed=6)
    mask = [[True, True, False], [False, False, False], [True, False, True], [False, True, False]]
    for case in cases(**MEANS):
        share = weights(mask, case["reduction"], case["normalizer"])
        expected = math.fsum(
            w * v for ws, vs in zip(share, values.tolist(), strict=True) for w, v in zip(ws, vs, strict=False)
        )
        actual = api.masked_mean(values, torch.tensor(mask), **case)
        assert_close(actual, expected, f"mean ({case})")
        assert_close(torch.autograd.grad(actual, values)[0], share, f"gradient of the mean ({case})")
    assert int(api.count_valid(torch.tensor(mask))) == 5
    assert int(api.count_valid(torch.tensor(mask), "sequence")) == 3


CHECKS = {
    "vanilla": check_vanilla,
    "rda": check_rda,
    "smoothing": check_smoothing,
    "crt": check_crt,
    "branching": check_branching,
    "response": check_response,
    "means": check_means,
}
