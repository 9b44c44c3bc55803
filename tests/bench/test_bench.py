"""`vitask bench` as a user sees it: every row in table and JSON, and figures that can be."""

from __future__ import annotations

import json

import pytest
import torch

from vitask.bench.report import report
from vitask.bench.sizes import SIZES

STAGES = [f"VITask {form}" for form in (
    "naive, after_image, live tower",
    "plain, before_assistant",
    "packed, before_assistant",
    "packed, after_image",
    "packed, before_assistant, live tower",
    "packed, after_image, live tower",
)]  # fmt: skip
ROWS = [
    ("stock", "-"),
    ("plain vanilla", "-"),
    *((name, stage) for stage in "12" for name in STAGES),
    ("vanilla + CSA + image ranking packed, 10 labels", "-"),
    ("VITask packed, before_assistant, + CSA, 10 labels", "2"),
]
SCORING = ["trie: all labels in one pass", "prefill: the prompt alone", "one forward a label", "greedy generation"]


def rows(result) -> dict:
    return {(record["name"], record["stage"]): record for record in result["training"]}


def test_json_and_table_have_every_row(measured):
    assert list(rows(measured.result)) == ROWS
    assert [row["name"] for row in measured.result["scoring"]["rows"]] == SCORING
    assert measured.ended.out == f"{report(measured.result)}\n\n{measured.out}\n"
    lines = [[cell.strip() for cell in line.split("|")[1:3]] for line in measured.ended.out.splitlines() if "|" in line]
    assert all([name, stage] in lines for name, stage in ROWS)
    assert all(f"| {name} " in measured.ended.out for name in SCORING)
    assert "Ratios to `plain vanilla`" in measured.ended.out


def test_the_json_says_what_was_measured_where(measured):
    result = measured.result
    assert set(result["versions"]) == {"vitask", "python", "torch", "transformers", "peft"}
    assert result["machine"]["device"] == "cpu"
    assert result["config"]["batch_size"] == 3
    assert result["size"]["lengths"] == list(SIZES["tiny"].lengths)
    for record in [*result["training"], *result["scoring"]["rows"]]:
        assert len(record["seconds"]) == 2
        assert all(seconds > 0 for seconds in record["seconds"])
        assert record["flops"] > 0
    assert len(result["host"]) == 5
    assert "throughput" not in result


def test_packing_saves_flops_and_memory(measured):
    found = rows(measured.result)
    for stage in "12":
        packed, plain = found["VITask packed, before_assistant", stage], found["VITask plain, before_assistant", stage]
        naive = found["VITask naive, after_image, live tower", stage]
        after, live = found["VITask packed, after_image", stage], found["VITask packed, after_image, live tower", stage]
        assert packed["flops"] < after["flops"] < plain["flops"] < naive["flops"]
        assert packed["saved_bytes"] < after["saved_bytes"] < plain["saved_bytes"]
        assert after["flops"] < live["flops"]
        assert after["saved_bytes"] == live["saved_bytes"], "a frozen tower keeps nothing"


def test_ratios_are_those_of_the_figures(measured):
    found = rows(measured.result)
    packed, plain = found["VITask packed, before_assistant", "2"], found["plain vanilla", "-"]
    ratios = packed["ratios"]["plain vanilla"]
    assert ratios["flops"] == packed["flops"] / plain["flops"]
    per_round = sorted(a / b for a, b in zip(packed["seconds"], plain["seconds"], strict=True))
    assert ratios["seconds"] == pytest.approx({"min": per_round[0], "median": sum(per_round) / 2, "max": per_round[1]})
    assert plain["ratios"]["plain vanilla"] == {
        "seconds": {"median": 1.0, "min": 1.0, "max": 1.0},
        "flops": 1.0,
        "saved_bytes": 1.0,
        "peak_bytes": None,
    }


def test_the_trie_scores_as_label_by_label_does(measured):
    scoring = {row["name"]: row for row in measured.result["scoring"]["rows"]}
    assert measured.result["scoring"]["largest_difference"] < 1e-5
    assert measured.result["scoring"]["largest_score_difference"] < 1e-4
    assert scoring["prefill: the prompt alone"]["flops"] < scoring["trie: all labels in one pass"]["flops"]
    assert scoring["trie: all labels in one pass"]["flops"] < scoring["one forward a label"]["flops"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(cli, tmp_path):
    ended = cli("bench", "size=tiny", "device=cuda", f"out={tmp_path / 'bench.json'}")
    assert ended.refuses(2, "device=cuda: torch sees no GPU")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_as_output_is_refused_before_anything_is_measured(cli, tmp_path):
    assert cli("bench", "size=tiny", "device=cpu", f"out={tmp_path}").refuses(2, "this is a folder")


def test_counting_alone_times_nothing(cli, tmp_path, measured):
    out = tmp_path / "bench.json"
    ended = cli("bench", "size=tiny", "device=meta", "batch_size=3", f"out={out}")
    assert ended.code == 0, ended
    counted = rows(json.loads(out.read_text()))
    for key, record in rows(measured.result).items():
        assert (key, counted[key]["flops"]) == (key, record["flops"])
        assert counted[key]["saved_bytes"] == pytest.approx(record["saved_bytes"], rel=0.01), key
    assert all(record["seconds"] == [] for record in counted.values())
    assert "counted without computing" in ended.out
    assert "time /" not in ended.out
