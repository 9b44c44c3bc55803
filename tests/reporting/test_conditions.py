"""What was done to the data stands beside the rows that it was done to."""

from __future__ import annotations

from dataclasses import replace

from vitask.reporting.tables import headline_table

from .studies import HOSTILE, study

RDA = f"+ RDA {HOSTILE}"


def test_a_condition_of_one_evaluation_stands_with_its_table():
    found = study(seeds=(0,))
    last = found.results[-1]
    conditions = {**last.metrics["conditions"], "contrastive decoding": "against grey"}
    other = replace(last, evaluation="test, contrast 1", metrics={**last.metrics, "conditions": conditions})
    both = replace(found, results=[*found.results, other])
    assert list(both.conditions) == [f"label {HOSTILE}"]
    assert headline_table(both, "test, contrast 1").note.endswith(" Contrastive decoding: against grey.")
    assert "grey" not in headline_table(both, "test").note


def test_a_condition_of_one_row_is_not_said_of_all():
    """Rows of different noise, and one whose exemplars are not its own."""
    found = study(seeds=(0, 1))
    texts = {"vanilla": {"label noise": "20 %", "split": "60/20/20"}, RDA: {"label noise": "40 %", "split": "60/20/20"}}
    shuffled = {"exemplar content": "of another image"}
    results = [
        replace(r, metrics={**r.metrics, "conditions": {**texts[r.row], **(shuffled if r.mode == "on" else {})}})
        for r in found.results
    ]
    mixed = replace(found, results=results)
    assert mixed.conditions == {"split": "60/20/20"}
    note = headline_table(mixed, "test").note
    assert f"Label noise: 20 % (vanilla); 40 % ({RDA}, w/o EP, {RDA}, w/ EP)." in note
    assert f"Exemplar content: of another image ({RDA}, w/ EP)." in note
    assert "60/20/20" not in note


def test_evaluations_that_differ_keep_their_own_words():
    found = study(seeds=(0,))
    said = [replace(r, metrics={**r.metrics, "conditions": {"image shift": "noise 0.1"}}) for r in found.results]
    other = [
        replace(r, evaluation="more", metrics={**r.metrics, "conditions": {"image shift": "noise 0.3"}}) for r in said
    ]
    both = replace(found, results=[*said, *other])
    assert both.conditions == {}
    notes = [headline_table(both, evaluation).note for evaluation in ("test", "more")]
    assert [note.endswith(f"Image shift: noise {x}.") for note, x in zip(notes, (0.1, 0.3), strict=True)] == [
        True,
        True,
    ]


def test_seeds_of_a_row_are_compared_by_one_that_all_have():
    found = study(seeds=(0, 1))
    kept = [r for r in found.results if (r.row, r.seed) != ("vanilla", 0)]
    said = [replace(r, metrics={**r.metrics, "conditions": {"label noise": f"seed {r.seed}"}}) for r in kept]
    assert replace(found, results=said).conditions == {"label noise": "seed 1"}
