"""The objective against sums written by hand from the definitions in the paper."""

from __future__ import annotations

import math

import pytest
import torch

from vitask.training.candidates import Candidates
from vitask.training.objective import Objective

LABELS = torch.tensor([[5, 6, 0], [5, 7, 0], [8, 0, -100], [5, 6, 0]])
CLOSED_SET = [[5, 6, 0], [5, 7, 0], [8, 0]]
HAS_NEGATIVE = torch.tensor([True, False, True, True])
WEIGHTS = {"vanilla": 1.0, "ep": 0.5, "rda": 2.0, "crt": 0.25}


def make_logits(requires_grad: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    names = ("vanilla", "exemplar", "negative")
    return {
        name: torch.randn(4, 3, 9, generator=generator, dtype=torch.float64).requires_grad_(requires_grad)
        for name in names
    }


def by_hand(reduction: str, branching: bool = False) -> dict[str, float]:
    """Every part by loops over rows and tokens."""
    logits = make_logits()
    rows = {term: [] for term in WEIGHTS}
    for b, row in enumerate(LABELS.tolist()):
        terms = {term: [] for term in WEIGHTS}
        for t, token in enumerate(row):
            if token == -100:
                continue
            p, q, n = (logits[name][b, t] for name in ("vanilla", "exemplar", "negative"))
            terms["vanilla"].append(-p.log_softmax(0)[token])
            terms["ep"].append(-q.log_softmax(0)[token])
            terms["rda"].append((p.softmax(0) * (p.log_softmax(0) - q.log_softmax(0))).sum())
            branches = len({label[t] for label in CLOSED_SET if label[:t] == row[:t]}) > 1
            if HAS_NEGATIVE[b] and (branches or not branching):
                terms["crt"].append(-(p - n).log_softmax(0)[token])
        for term, values in terms.items():
            if values and reduction == "sequence":
                rows[term].append(torch.stack(values).mean())
            else:
                rows[term].extend(values)
    return {term: torch.stack(values).mean().item() for term, values in rows.items()}


def make_batch(labels=LABELS, has_negative=HAS_NEGATIVE) -> dict[str, torch.Tensor]:
    return {"labels": labels, "has_negative": has_negative}


def evaluate(objective: Objective, logits=None, progress: float = 1.0) -> dict[str, torch.Tensor]:
    return objective(logits or make_logits(), make_batch(), objective.counts(make_batch()), progress)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("tokens", ["all", "branching"])
def test_parts_and_weighted_sum_equal_loops_over_the_definitions(reduction, tokens):
    objective = Objective(WEIGHTS, reduction=reduction, crt_tokens=tokens, label_tokens=CLOSED_SET)
    expected = by_hand(reduction, branching=tokens == "branching")
    out = {name: value.item() for name, value in evaluate(objective).items()}
    total = sum(WEIGHTS[term] * value for term, value in expected.items())
    assert out == pytest.approx({"loss": total, **expected}, rel=1e-12)


def test_counts_are_what_each_part_is_averaged_over():
    def counts(**options):
        objective = Objective(WEIGHTS, label_tokens=CLOSED_SET, **options)
        return {term: int(count) for term, count in objective.counts(make_batch()).items()}

    assert counts() == {"vanilla": 11, "ep": 11, "rda": 11, "crt": 8}
    assert counts(crt_tokens="branching") == {"vanilla": 11, "ep": 11, "rda": 11, "crt": 5}
    assert counts(reduction="sequence") == {"vanilla": 4, "ep": 4, "rda": 4, "crt": 3}


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_parts_of_micro_batches_add_up(reduction):
    objective, logits = Objective(WEIGHTS, reduction=reduction), make_logits()
    totals = objective.counts(make_batch())
    pieces = [
        objective({k: v[rows] for k, v in logits.items()}, make_batch(LABELS[rows], HAS_NEGATIVE[rows]), totals, 1.0)
        for rows in (slice(0, 1), slice(1, 2), slice(2, 4))
    ]
    for name, value in evaluate(objective).items():
        torch.testing.assert_close(sum(piece[name] for piece in pieces), value, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("weights", "terms", "branches"),
    [
        ({"vanilla": 1.0}, ("vanilla",), ("vanilla",)),
        ({"ep": 1.0, "vanilla": 0.0}, ("ep",), ("exemplar",)),
        ({"vanilla": 1.0, "ep": 1.0, "rda": 0.0}, ("vanilla", "ep"), ("vanilla", "exemplar")),
        ({"rda": 1.0}, ("rda",), ("vanilla", "exemplar")),
        ({"crt": 1.0}, ("crt",), ("vanilla", "negative")),
        (WEIGHTS, ("vanilla", "ep", "rda", "crt"), ("vanilla", "exemplar", "negative")),
    ],
)
def test_a_term_without_weight_is_absent_with_the_branch_that_only_it_needs(weights, terms, branches):
    objective = Objective(weights)
    assert objective.terms == terms
    assert objective.branches == branches
    logits = {name: value for name, value in make_logits().items() if name in branches}
    assert tuple(evaluate(objective, logits)) == ("loss", *terms)
    assert tuple(objective.counts(make_batch())) == terms


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_reaches_rda_teacher_only_when_it_is_not_detached(detach):
    logits = make_logits(requires_grad=True)
    evaluate(Objective({"rda": 1.0}, detach_teacher=detach), logits)["loss"].backward()
    assert logits["vanilla"].grad.abs().max() > 0
    assert (logits["exemplar"].grad is None) == detach


def test_options_of_rda_reach_its_loss():
    values = {
        evaluate(Objective({"rda": 1.0}, **options))["rda"].item()
        for options in ({}, {"temperature": 2.0}, {"direction": "teacher_first"})
    }
    assert len(values) == 3


def test_the_teacher_of_rda_may_be_the_smoothed_response_which_needs_no_branch():
    options = {"rda_teacher": "labels", "smoothing": 0.2}
    objective = Objective({"vanilla": 1.0, "rda": 2.0}, **options)
    assert objective.branches == ("vanilla",)
    logits = make_logits(requires_grad=True)
    out = evaluate(objective, {"vanilla": logits["vanilla"]})
    divergences = []
    for row, labels in zip(logits["vanilla"], LABELS.tolist(), strict=True):
        for token, label in zip(row, labels, strict=True):
            if label != -100:
                teacher = torch.full((9,), 0.2 / 9, dtype=torch.float64)
                teacher[label] += 0.8
                log_p = token.log_softmax(0)
                divergences.append((log_p.exp() * (log_p - teacher.log())).sum())
    torch.testing.assert_close(out["rda"], torch.stack(divergences).mean(), rtol=1e-12, atol=0)
    with_exemplar = Objective({"ep": 1.0, "rda": 1.0}, **options)
    assert with_exemplar.branches == ("exemplar", "vanilla")


def test_smoothed_labels_teach_half_precision_in_float32():
    logits = {"vanilla": make_logits()["vanilla"].to(torch.bfloat16)}
    out = evaluate(Objective({"rda": 1.0}, rda_teacher="labels"), logits)
    wide = evaluate(Objective({"rda": 1.0}, rda_teacher="labels"), {"vanilla": logits["vanilla"].double()})
    assert out["rda"].dtype == torch.float32
    assert out["rda"].item() == pytest.approx(wide["rda"].item(), rel=1e-6)


@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_a_mask_of_the_teacher_keeps_the_number_that_is_divided_by(reduction):
    objective, logits = Objective({"rda": 1.0}, rda_mask="teacher_right", reduction=reduction), make_logits()
    logits["exemplar"][[0, 2, 2], [1, 0, 1], [6, 8, 0]] += 9.0
    right = logits["exemplar"].argmax(-1) == LABELS
    assert 0 < int(right.sum()) < int((LABELS != -100).sum())
    p, q = (logits[name].log_softmax(-1) for name in ("vanilla", "exemplar"))
    kept = (p.exp() * (p - q)).sum(-1) * right
    lengths = (LABELS != -100).sum(-1)
    expected = kept.sum() / 11 if reduction == "token" else (kept.sum(-1) / lengths).mean()
    torch.testing.assert_close(evaluate(objective, logits)["rda"], expected, rtol=1e-12, atol=0)
    assert int(objective.counts(make_batch())["rda"]) == (11 if reduction == "token" else 4)


def test_each_term_has_a_ramp_of_its_own():
    objective = Objective(WEIGHTS, ramps={"crt": 0.2, "rda": 0.0})
    assert [objective.weight("crt", progress) for progress in (0, 0.1, 0.2, 1)] == [0, 0.125, 0.25, 0.25]
    assert [objective.weight(term, 0.0) for term in ("vanilla", "ep", "rda")] == [1, 0.5, 2]


def test_ramp_raises_the_weight_of_rda_alone():
    objective = Objective(WEIGHTS, ramps={"rda": 0.5})
    assert [objective.weight("rda", progress) for progress in (0, 0.1, 0.25, 0.5, 1)] == [0, 0.4, 1, 2, 2]
    assert [objective.weight(term, 0.0) for term in ("vanilla", "ep", "crt")] == [1, 0.5, 0.25]
    parts = by_hand("token")
    out = evaluate(objective, progress=0.25)
    expected = parts["vanilla"] + 0.5 * parts["ep"] + 1.0 * parts["rda"] + 0.25 * parts["crt"]
    assert out["loss"].item() == pytest.approx(expected, rel=1e-12)
    assert out["rda"].item() == pytest.approx(parts["rda"], rel=1e-12)
    assert Objective(WEIGHTS).weight("rda", 0.0) == 2


def test_a_batch_without_negatives_has_a_zero_crt_part_with_finite_gradients():
    objective, logits = Objective({"vanilla": 1.0, "crt": 1.0}), make_logits(requires_grad=True)
    nobody = torch.zeros(4, dtype=torch.bool)
    batch = make_batch(has_negative=nobody)
    out = objective(logits, batch, objective.counts(batch), 0.0)
    out["loss"].backward()
    assert out["crt"].item() == 0
    assert torch.equal(logits["negative"].grad, torch.zeros_like(logits["negative"]))
    assert logits["vanilla"].grad.isfinite().all()


@pytest.mark.parametrize(
    ("weights", "options", "words"),
    [
        ({"vanilla": 0.0}, {}, "no term"),
        ({"vanilla": 1.0, "RDA": 1.0}, {}, "RDA"),
        ({"vanilla": 1.0}, {"reduction": "mean"}, "reduction"),
        ({"rda": 1.0}, {"direction": "both"}, "direction"),
        ({"rda": 1.0}, {"rda_teacher": "tsm"}, "teacher"),
        ({"rda": 1.0}, {"rda_mask": "right"}, "mask"),
        ({"crt": 1.0}, {"crt_tokens": "branching"}, "label_tokens"),
    ],
)
def test_wrong_options_are_refused(weights, options, words):
    with pytest.raises(ValueError, match=words):
        Objective(weights, **options)


SCORES = torch.tensor([[0.0, -1.0, -3.0], [-2.0, -0.5, -1.0]], dtype=torch.float64)
ALL, ROWS = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
TEACHER = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]], dtype=torch.float64)


def test_closed_set_terms_of_single_labels_equal_sums_by_hand():
    objective = Objective({"ranking": 2.0, "csa": 0.5}, closed_set_temperature=2.0, teacher_temperature=0.5)
    assert objective.branches == ("labels",)
    closed = {"valid": ALL, "rows": ROWS, "targets": torch.tensor([1, 0]), "teacher": TEACHER}
    batch = {"closed_set": {"single": closed}}
    counts = objective.counts(batch)
    assert {term: int(count) for term, count in counts.items()} == {"ranking": 2, "csa": 2}
    out = objective({"labels": SCORES}, batch, counts, 0.0)
    log_p, teacher = (SCORES / 2).log_softmax(-1), (TEACHER / 0.5).softmax(-1)
    ranking = -(log_p[0, 1] + log_p[1, 0]) / 2
    csa = 4 * (teacher * (teacher.log() - log_p)).sum() / 2
    torch.testing.assert_close(out["ranking"], ranking, rtol=1e-12, atol=0)
    torch.testing.assert_close(out["csa"], csa, rtol=1e-12, atol=0)
    torch.testing.assert_close(out["loss"], 2 * ranking + 0.5 * csa, rtol=1e-12, atol=0)


def test_closed_set_terms_of_label_sets_compare_each_label():
    objective = Objective({"ranking": 1.0, "csa": 1.0})
    sets = torch.tensor([[False, False], [True, False], [True, True]])
    truth = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    teacher = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.float64)
    closed = {
        "valid": ALL,
        "rows": ROWS,
        "targets": truth,
        "teacher": teacher,
        "membership": sets.expand(2, 3, 2),
    }
    batch = {"closed_set": {"several": closed}}
    out = objective({"labels": SCORES}, batch, objective.counts(batch), 0.0)
    p = SCORES.softmax(-1) @ sets.double()
    t = teacher.sigmoid()
    ranking = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()
    csa = (t * (t / p).log() + (1 - t) * ((1 - t) / (1 - p)).log()).mean()
    torch.testing.assert_close(out["ranking"], ranking, rtol=1e-10, atol=0)
    torch.testing.assert_close(out["csa"], csa, rtol=1e-10, atol=0)


def test_samples_of_both_kinds_keep_their_own_loss_in_one_batch():
    objective = Objective({"ranking": 1.0, "csa": 1.0})
    sets = torch.tensor([[False, False], [True, False], [True, True]])
    single = {"valid": ALL, "rows": torch.tensor([True, False]), "targets": torch.tensor([1, 0]), "teacher": TEACHER}
    several = {
        "valid": ALL,
        "rows": torch.tensor([False, True]),
        "targets": torch.tensor([[0.0, 0.0], [1.0, 0.0]]),
        "teacher": torch.tensor([[0.0, 0.0], [0.5, -1.0]], dtype=torch.float64),
        "membership": sets.expand(2, 3, 2),
    }
    batch = {"closed_set": {"single": single, "several": several}}
    counts = objective.counts(batch)
    assert int(counts["csa"]) == 2
    out = objective({"labels": SCORES}, batch, counts, 0.0)
    log_p, t = SCORES[0].log_softmax(-1), TEACHER[0].softmax(-1)
    p, q = SCORES[1].softmax(-1) @ sets.double(), several["teacher"][1].sigmoid()
    csa = (t * (t.log() - log_p)).sum() + (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).mean()
    ranking = -log_p[1] - (p[0].log() + (1 - p[1]).log()) / 2
    torch.testing.assert_close(out["csa"], csa / 2, rtol=1e-10, atol=0)
    torch.testing.assert_close(out["ranking"], ranking / 2, rtol=1e-10, atol=0)


def test_images_are_ranked_by_answer_wherever_it_stands_among_their_candidates():
    """Answers 4, 7 and 9; the second image was not scored against 4, so only the third is a rival of the first."""
    scores = torch.tensor([[0.0, -1.0], [-2.0, 1.0], [0.5, -3.0]], dtype=torch.float64)
    batch = {"columns": Candidates.columns([[4, 7], [7, 9], [4, 9]], [4, 7, 9])}
    objective = Objective({"image_ranking": 2.0}, closed_set_temperature=0.5)
    assert objective.branches == ("labels",)
    counts = objective.counts(batch)
    assert int(counts["image_ranking"]) == 3
    out = objective({"labels": scores}, batch, counts, 0.0)
    pairs = [(0.0, 0.5), (-2.0, -1.0), (-3.0, 1.0)]  # own and rival, in the column of each answer
    expected = sum(math.log1p(math.exp((rival - own) / 0.5)) for own, rival in pairs) / 3
    assert out["image_ranking"].item() == pytest.approx(expected, rel=1e-12)
    assert out["loss"].item() == pytest.approx(2 * expected, rel=1e-12)


def test_images_of_several_micro_batches_are_averaged_over_the_step():
    scores = torch.tensor([[0.0, -1.0], [-2.0, 1.0], [0.5, -3.0], [1.0, 1.0]], dtype=torch.float64)
    objective, truths = Objective({"image_ranking": 1.0}), [0, 1, 0, 0]
    batches = [{"columns": Candidates.columns([[0, 1]] * 2, truths[rows])} for rows in (slice(0, 2), slice(2, 4))]
    counts = [objective.counts(batch)["image_ranking"] for batch in batches]
    assert [int(count) for count in counts] == [2, 0]
    totals = {"image_ranking": sum(counts)}
    parts = [
        objective({"labels": scores[rows]}, batch, totals, 0.0)["image_ranking"].item()
        for batch, rows in zip(batches, (slice(0, 2), slice(2, 4)), strict=True)
    ]
    assert parts[1] == 0
    assert parts[0] == pytest.approx((math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-2.0))) / 2, rel=1e-12)
