"""Paired tests of two runs from their predictions, over seeds, and what is refused."""

from __future__ import annotations

import csv
import doctest
import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import ttest_rel
from sklearn.metrics import f1_score

import vitask.reporting.comparison
from vitask.errors import VitaskError
from vitask.reporting.comparison import (
    compare_answers,
    compare_seeds,
    holm,
    read_answers,
    samples_table,
    seeds_table,
)

from .test_table import cells

LABELS = ["cat", "dog", "eel, moray"]
TRUTH = [0, 0, 1, 1, 2, 2, 0, 1]
BASE = [0, 1, 1, 0, 2, 1, 1, 0]  # right: 3
OWN = [0, 0, 1, 1, 2, 2, 1, 0]  # right: 6


def write(folder, prediction, truth=TRUTH, labels=LABELS, ids=None, sets=None):
    """An evaluation's folder; with `sets` truth and prediction index into its texts."""
    texts = list(sets) if sets else labels
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"labels": labels, **({"answers": sets} if sets else {})}))
    with (folder / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "truth", "prediction", "text", "parsed", *(f"p({label})" for label in labels)])
        for number, (right, said) in enumerate(zip(truth, prediction, strict=True)):
            name = ids[number] if ids else f"test/{number}.png"
            rows.writerow([name, texts[right], texts[said], "a\nb", "", *[1 / len(labels)] * len(labels)])
    return read_answers(folder)


def test_the_example_runs():
    assert doctest.testmod(vitask.reporting.comparison).failed == 0


def test_two_runs_on_the_same_samples(tmp_path):
    found = compare_answers(write(tmp_path / "a", BASE), write(tmp_path / "b", OWN))
    assert found["samples"] == 8
    assert found["mcnemar"] == pytest.approx({"only_own": 3, "only_base": 0, "p": 0.25})
    accuracy, f1 = found["accuracy"], found["macro_f1"]
    assert (accuracy["base"], accuracy["own"], accuracy["difference"]) == pytest.approx((3 / 8, 6 / 8, 3 / 8))
    expected = [f1_score(TRUTH, said, average="macro") for said in (BASE, OWN)]
    assert [f1["base"], f1["own"]] == pytest.approx(expected)
    assert f1["difference"] == pytest.approx(expected[1] - expected[0])
    assert accuracy["interval"][0] <= accuracy["difference"] <= accuracy["interval"][1]


def test_the_other_way_round_only_the_sign_changes(tmp_path):
    a, b = write(tmp_path / "a", BASE), write(tmp_path / "b", OWN)
    there, back = compare_answers(a, b), compare_answers(b, a)
    for name in ("accuracy", "macro_f1"):
        assert back[name]["difference"] == pytest.approx(-there[name]["difference"])
        assert back[name]["interval"] == pytest.approx([-end for end in reversed(there[name]["interval"])])
        assert back[name]["p"] == there[name]["p"]
    assert back["mcnemar"]["p"] == there["mcnemar"]["p"]


def write_words(folder, right, rivals=3, images=(0, 0, 1, 1, 2, 2, 3, 3)):
    """The folder of an evaluation of answers in words; two questions an image."""
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    columns = ["id", "image", "instruction", "response", "log_likelihood", "tokens", "place", "rivals"]
    columns += ["text", "exact_match", "token_f1"]
    with (folder / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        for number, (image, hit) in enumerate(zip(images, right, strict=True)):
            place = "" if number == 7 else 1 if hit else 2
            said = [place, rivals, "red" if hit else "", hit, hit]
            rows.writerow([f"{number}#1", f"{image}.png", "What color?", "red", -1.0 - (1 - hit), 2, *said])
    return read_answers(folder)


def test_answers_in_words_are_compared_over_images(tmp_path):
    base, own = [1, 0, 0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]
    a, b = write_words(tmp_path / "a", base), write_words(tmp_path / "b", own)
    found = compare_answers(a, b)
    assert (found["samples"], found["images"], found["right"]) == (8, 4, {"only_base": 0, "only_own": 3})
    exact, ranked, likely = (found[name] for name in ("exact_match", "rank_accuracy", "log_likelihood"))
    assert (exact["base"], exact["own"], exact["difference"]) == (3 / 8, 6 / 8, 3 / 8)
    assert (ranked["base"], ranked["own"]) == (3 / 7, 6 / 7)
    assert (likely["base"], likely["own"]) == (-13 / 16, -10 / 16)
    drawn = np.array(list(itertools.product(range(4), repeat=4)))
    gains = np.array([1, 2, 0, 0])[drawn].sum(1) / 8
    assert exact["interval"] == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=0.01)
    table = cells(samples_table("test", {"": found}))
    assert [row[0] for row in table[2:]] == ["exact match", "token F1", "ranked first", "log-likelihood a token"]
    assert table[0][:3] == ["test", "questions", "images"]
    assert table[2][1:3] == ["8", "4"]
    assert table[2][-2:] == ["0", "3"]
    both = compare_seeds([found, compare_answers(b, b)])
    assert both["exact_match"]["difference"] == pytest.approx(3 / 16)
    assert cells(seeds_table("test", {"": both}))[2][0] == "exact match"


def test_answers_in_words_are_refused_beside_labels_and_beside_other_rivals(tmp_path):
    right = [1, 0] * 4
    a = write_words(tmp_path / "a", right)
    with pytest.raises(VitaskError, match=r"the number of rivals is '3' in .* and '5' in"):
        compare_answers(a, write_words(tmp_path / "b", right, rivals=5))
    with pytest.raises(VitaskError, match="do not have the same labels"):
        compare_answers(a, write(tmp_path / "c", BASE))


def test_label_sets_are_read_as_the_evaluation_says(tmp_path):
    sets = {"none": [], "cat": ["cat"], "cat; eel, moray": ["cat", "eel, moray"]}
    made = write(tmp_path / "a", [0, 2, 1], truth=[0, 2, 2], sets=sets)
    assert made.predictions.multi_label
    assert made.predictions.truth.tolist() == [[False] * 3, [True, False, True], [True, False, True]]
    assert made.predictions.chosen.tolist() == [[False] * 3, [True, False, True], [True, False, False]]
    found = compare_answers(made, made)
    assert (found["accuracy"]["base"], found["accuracy"]["own"]) == pytest.approx((2 / 3, 2 / 3))
    assert found["macro_f1"]["own"] == pytest.approx((1 + 0 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"ids": ["x", *(f"test/{n}.png" for n in range(1, 8))]}, ("row 0: the id is 'test/0.png'", "'x'")),
        ({"truth": [1, *TRUTH[1:]]}, ("row 0: the truth is 'cat'", "'dog'", "same samples in the same order")),
        ({"truth": TRUTH[:7], "prediction": OWN[:7]}, ("8 samples", "7", "not the same split")),
        ({"labels": [*LABELS, "fox"]}, ("do not have the same labels",)),
        ({"sets": {label: [label] for label in LABELS}}, ("do not have the same labels",)),
    ],
)
def test_other_samples_are_refused_and_both_files_named(tmp_path, changes, texts):
    a, b = write(tmp_path / "a", BASE), write(tmp_path / "b", **{"prediction": OWN, **changes})
    with pytest.raises(VitaskError) as refused:
        compare_answers(a, b)
    for text in (*texts, str(tmp_path / "a/predictions.csv"), str(tmp_path / "b/predictions.csv")):
        assert text in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("predictions.csv", None, "missing or damaged"),
        ("metrics.json", None, "missing or damaged"),
        ("metrics.json", "{", "missing or damaged"),
        ("metrics.json", "[]", "missing or damaged"),
        ("predictions.csv", "", "expected the columns id, truth and prediction"),
        ("predictions.csv", "id,truth\n1,cat\n", "expected the columns id, truth and prediction"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, text):
    write(tmp_path, BASE)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(VitaskError, match=text) as refused:
        read_answers(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_an_answer_outside_the_labels_is_named(tmp_path):
    made = write(tmp_path, BASE)
    (tmp_path / "predictions.csv").write_text(made.path.read_text().replace(",dog,", ",fox,"))
    with pytest.raises(VitaskError, match="'fox' is not one of cat, dog"):
        compare_answers(*[read_answers(tmp_path)] * 2)


def comparison(base: float, own: float, p: float = 0.5) -> dict:
    one = {"base": base, "own": own, "difference": own - base, "interval": [own - base - 0.1, own - base + 0.1], "p": p}
    return {"samples": 8, "accuracy": one, "macro_f1": one, "mcnemar": {"only_own": 5, "only_base": 2, "p": p}}


def test_over_seeds_it_is_the_paired_t_test():
    base, own = np.random.default_rng(0).random((2, 5))
    found = compare_seeds([comparison(a, b) for a, b in zip(base, own, strict=True)])
    expected = ttest_rel(own, base)
    assert found["seeds"] == 5
    for name in ("accuracy", "macro_f1"):
        assert found[name]["p"] == pytest.approx(expected.pvalue)
        assert found[name]["interval"] == pytest.approx(list(expected.confidence_interval()))
        assert found[name]["difference"] == pytest.approx(np.mean(own - base))
        assert (found[name]["base"], found[name]["own"]) == (base.tolist(), own.tolist())


def holm_by_steps(p_values: list[float], level: float) -> list[bool]:
    """The procedure in Holm's words: reject the smallest p as long as it is below level / tests left."""
    rejected, left = [False] * len(p_values), sorted(range(len(p_values)), key=lambda i: p_values[i])
    while left and p_values[left[0]] <= level / len(left):
        rejected[left.pop(0)] = True
    return rejected


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_p_are_below_a_level_where_holm_rejects(seed):
    rng = np.random.default_rng(seed)
    p_values = (rng.random(8) ** 3).tolist()
    for level in rng.random(20):
        assert [p <= level for p in holm(p_values)] == holm_by_steps(p_values, level)


def test_a_single_test_needs_no_adjustment_and_none_is_left_alone():
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    first, second = holm([math.nan, 0.2])
    assert math.isnan(first)
    assert second == 0.2


def test_the_table_over_samples():
    (header, _, accuracy, f1) = cells(samples_table("test", {"": comparison(0.5, 0.75, 0.04)}))
    assert header == ["test", "n", "A", "B", "B - A", "95 % interval", "p", "only A right", "only B right"]
    assert accuracy == ["accuracy", "8", "0.500", "0.750", "+0.250", "+0.150 to +0.350", "0.040", "2", "5"]
    assert f1 == ["macro-F1", "8", "0.500", "0.750", "+0.250", "+0.150 to +0.350", "0.040", "", ""]


def test_several_sets_are_adjusted_figure_by_figure():
    found = {"eyes": comparison(0.5, 0.75, 0.04), "lungs": comparison(0.5, 0.625, 0.01)}
    (header, _, *rows) = cells(samples_table("test", found))
    assert [row[0] for row in rows] == ["eyes accuracy", "lungs accuracy", "eyes macro-F1", "lungs macro-F1"]
    assert [row[header.index("p, Holm")] for row in rows] == ["0.040", "0.020"] * 2
    assert max(len(line) for line in samples_table("test", found).splitlines()) <= 120


def test_the_table_over_seeds():
    found = compare_seeds([comparison(0.5, 0.75), comparison(0.625, 0.75)])
    (header, _, accuracy, _) = cells(seeds_table("val", {"": found}))
    assert header == ["val", "seeds", "A", "B", "B - A", "95 % interval", "p"]
    assert accuracy[:5] == ["accuracy", "2", "0.562 ± 0.088", "0.750 ± 0.000", "+0.188"]
