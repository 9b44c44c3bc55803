"""The tables of what training costs and of what it makes a VLM forget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vitask.reporting.cost import cost_table, duration, large, memory
from vitask.reporting.retention import retention_tables
from vitask.reporting.study import Study

from .studies import by_row, run


def test_costs_include_earlier_stages_and_are_set_against_plain_tuning():
    first = run("ep", 0, "stage=ep")
    runs = {"vanilla": [run("v", 0, "stage=vanilla")], "VITask": [replace(run("c", 0, "stage=crt"), earlier=(first,))]}
    rows = by_row(cost_table(Study("", "", [], runs)))
    assert rows["vanilla"] == ["60.0 s", "1.0 GiB", "1.0 T", "1.0 k", "1.0 M"]
    assert rows["VITask"] == ["2 min 2.00 ×", "1.0 GiB 1.00 ×", "2.0 T 2.00 ×", "1.0 k 1.00 ×", "1.0 M 1.00 ×"]
    assert cost_table(Study("", "", [], {"a": [replace(first, summary={})]})) is None


def test_a_tsm_that_rows_share_has_a_line_of_its_own():
    cost = {"seconds": 30.0, "flops": 2e9, "peak_memory_bytes": None}  # as of an encoder that nothing trains
    rows = {
        row: [replace(run(row, seed, "stage=crt"), tsm=Path(f"tsm{seed}"), tsm_cost=cost) for seed in (0, 1)]
        for row in ("a", "b")
    }
    found = by_row(cost_table(Study("", "", [], rows)))
    assert (list(found), found["TSM"]) == (["TSM", "a", "b"], ["30.0 s", "-", "2.0 G", "-", "-"])
    tsm = {"TSM alone": [run("t", 0, "stage=tsm")]}
    assert list(by_row(cost_table(Study("", "", [], {**tsm, **rows})))) == ["TSM alone", "a", "b"]


def test_probes_show_what_each_row_has_forgotten():
    def asked(name: str, before: float, after: float) -> dict:
        states = {"untuned": before, "tuned": after, "difference": after - before}
        return {"probe": name, "samples": 9} | {
            state: {"perplexity": 1 + value, "exact_match": value} for state, value in states.items()
        }

    rows = {
        "a": [replace(run("a", seed, "stage=crt"), probes=[asked("own", 0.9, 0.5 + seed / 10)]) for seed in (0, 1)],
        "b": [replace(run("b", 0, "stage=crt"), probes=[asked("other", 0.5, 0.5)])],
        "c": [run("c", 0, "stage=crt")],
    }
    own, other = retention_tables(Study("", "", [], rows))
    assert [(t.title, t.corner, list(by_row(t))) for t in (own, other)] == [
        ("Retention: own", "n = 9", ["a"]), ("Retention: other", "n = 9", ["b"]),
    ]  # fmt: skip
    assert own.groups == [("before tuning", 2), ("after tuning", 2), ("difference", 2)]
    assert by_row(own)["a"][:4] == ["1.900 ± 0.000", "0.900 ± 0.000", "1.550 ± 0.071", "0.550 ± 0.071"]
    assert by_row(other)["b"][4:] == ["1.000", "0.000"]


@pytest.mark.parametrize(
    ("shown", "text"),
    [(duration(0.04), "0.0 s"), (duration(119), "119.0 s"), (duration(3700), "1 h 02 min"),
     (duration(7170), "2 h 00 min"), (large(999), "999"), (large(1e15), "1.0 P"), (memory(512), "512 B"),
     (memory(2**40), "1.0 TiB")],
)  # fmt: skip
def test_units_are_those_that_people_read(shown, text):
    assert shown == text
