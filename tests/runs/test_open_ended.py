"""Questions and captions in words, from the table to the answer, on generated pictures of shapes."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path

import pytest

from vitask.data import comparable, load_instruction_task, token_f1
from vitask.runs.evaluate_open import draw_rivals


@pytest.fixture(scope="module")
def options(words) -> tuple[str, ...]:
    return words


@pytest.fixture(scope="module")
def trained(word_runs) -> dict[str, Path]:
    return word_runs


@pytest.fixture
def task(questions, tmp_path):
    return load_instruction_task(questions, cache_dir=tmp_path)


def test_rivals_are_different_responses_to_the_same_instruction(task):
    rows = task.splits["test"]
    texts = [task.answers[answer].text for answer in rows["answer"]]
    asked = rows["instruction"]
    for count in (2, 100):
        for row, rivals in enumerate(draw_rivals(task, "test", count, seed=0)):
            found = [comparable(task.answers[rival].text) for rival in rivals]
            possible = {comparable(t) for t, a in zip(texts, asked, strict=True) if a == asked[row]}
            possible -= {comparable(texts[row])}
            assert len(set(found)) == len(found) == min(count, len(possible))
            assert set(found) <= possible


@pytest.mark.slow
def test_every_figure_follows_from_the_predictions(trained, task, cli):
    ended = cli("evaluate", f"run={trained['crt']}", "rivals=3", "ranking=true")
    assert ended.code == 0, ended
    assert "commonest response" in ended.out
    for mode in ("off", "on"):
        folder = trained["crt"] / "eval" / f"test-{mode}"
        metrics = json.loads((folder / "metrics.json").read_text())
        with (folder / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        images = len({row["image"] for row in rows})
        assert metrics["images"] == images < len(rows)
        assert f"| test, n = {len(rows)} questions, {images} images " in ended.out
        truth = [task.answers[answer].text for answer in task.splits["test"]["answer"]]
        assert [row["response"] for row in rows] == truth
        exact = [comparable(row["text"]) == comparable(row["response"]) for row in rows]
        assert metrics["generated"]["exact_match"] == pytest.approx(sum(exact) / len(rows))
        overlap = [token_f1(row["text"], row["response"]) for row in rows]
        assert metrics["generated"]["token_f1"] == pytest.approx(sum(overlap) / len(rows))
        places = [float(row["place"]) for row in rows if row["place"]]
        assert metrics["ranked"] == len(places)
        assert metrics["rank_accuracy"] == pytest.approx(sum(place == 1 for place in places) / len(places))
        assert metrics["mrr"] == pytest.approx(sum(1 / place for place in places) / len(places))
        chance = [1 / (1 + int(row["rivals"])) for row in rows if row["place"]]
        assert metrics["chance"] == pytest.approx(sum(chance) / len(chance))
        assert 1 < metrics["perplexity"] < 1e3
        low, high = metrics["intervals"]["perplexity"]
        assert low <= metrics["perplexity"] <= high
        assert sum(each["samples"] for each in metrics["by_instruction"].values()) == len(rows)
    off = json.loads((trained["crt"] / "eval/test-off/metrics.json").read_text())
    assert off["ranking"]["pairs"] <= len(rows)
    assert "2 other responses" not in ended.out
    again = cli("evaluate", f"run={trained['crt']}", "rivals=2", "generate=false", "exemplar=off")
    assert "up to 2 other responses" in again.out, "another number of rivals is another evaluation"


@pytest.mark.slow
def test_the_commonest_response_is_that_of_the_training_split(trained, task, cli):
    assert cli("evaluate", f"run={trained['vanilla']}", "split=val").code == 0
    found = json.loads((trained["vanilla"] / "eval/val-off/metrics.json").read_text())
    counts: dict[str, Counter[str]] = {}
    for row in task.splits["train"]:
        counts.setdefault(row["instruction"], Counter())[task.answers[row["answer"]].text] += 1
    best = {asked: commonest.most_common(1)[0][0] for asked, commonest in counts.items()}
    rows = task.splits["val"]
    right = [best[row["instruction"]] == task.answers[row["answer"]].text for row in rows]
    assert found["majority"]["exact_match"] == pytest.approx(sum(right) / len(rows))


@pytest.mark.slow
def test_one_pass_for_all_branches_is_a_pass_a_branch(options, trained, tmp_path, cli):
    more = ["stage=ep", "objective.beta=0", "lora.dropout=0", f"out={tmp_path}"]
    logs = []
    for step in ("packed", "plain"):
        assert cli("train", *options, *more, f"step={step}", f"tag={step}").code == 0
        (run,) = (tmp_path / "questions").glob(f"ep-{step}-*")
        logs.append([json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()])
    pairs = [(a, b) for a, b in zip(*logs, strict=True) if "loss" in a]
    assert len(pairs) >= 2
    for a, b in pairs:
        for term in ("vanilla", "ep", "rda"):
            assert math.isclose(a[term], b[term], rel_tol=1e-3, abs_tol=1e-5), (term, a, b)


@pytest.mark.slow
def test_predict_answers_an_instruction(trained, questions, cli):
    image = questions.parent / "00000.png"
    for exemplar in ("on", "off"):
        ended = cli("predict", f"run={trained['crt']}", f"exemplar={exemplar}", "instruction=What color is it?", image)
        assert ended.code == 0, ended
        assert ended.out.strip().splitlines()[-1].startswith(f"{image}: ")
    assert cli("predict", f"run={trained['crt']}", image).refuses(2, "instruction", "say what to ask")
    reserved = cli("predict", f"run={trained['crt']}", "instruction=What <IMG_CONTEXT> is it?", image)
    assert reserved.refuses(2, "instruction: ", "holds <IMG_CONTEXT>, which stands for the image")


@pytest.mark.slow
@pytest.mark.parametrize("column", ["instruction", "response"])
def test_a_row_with_the_placeholder_of_an_image_is_named(column, questions, options, tmp_path, cli):
    lines = [json.loads(line) for line in questions.read_text().splitlines()]
    row = next(row for row in lines if row["split"] == "train")
    row |= {"id": "odd", column: "a <IMG_CONTEXT> b", "image": str(questions.parent / row["image"])}
    lines = [
        {"id": str(place), **each, "image": str(questions.parent / each["image"])} for place, each in enumerate(lines)
    ]
    (tmp_path / "odd.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    ended = cli("train", *options, f"data.path={tmp_path / 'odd.jsonl'}", "stage=vanilla", f"out={tmp_path / 'runs'}")
    assert ended.refuses(1, f"row 'odd': {column}: 'a <IMG_CONTEXT> b' holds <IMG_CONTEXT>")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["evaluate", "run={crt}", "contrast=1"], "chooses among labels"),
        (["evaluate", "run={tsm}"], "without a head"),
    ],
)
def test_what_is_made_of_labels_is_refused(verb, said, trained, cli):
    ended = cli(*(word.format(**trained) for word in verb))
    assert ended.refuses(2, said)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["tsm.tune=all"], ["tsm.tune=all", "needs labels", "tsm=frozen_dinov2", "exemplar.table"]),
        (["stage=tsm", "tsm.tune=head"], ["tsm.tune=head", "needs labels"]),
        (["stage=head"], ["stage=head", "stage=vanilla"]),
        (["objective.csa=1"], ["objective.csa", "leave it at 0"]),
        (["objective.ranking=1"], ["objective.ranking"]),
        (["data.instruction.hint=true"], ["data.instruction.hint"]),
        (["objective.crt.tokens=branching"], ["objective.crt.tokens=all"]),
        (["objective.crt.disjoint=true"], ["objective.crt.max_overlap"]),
        (["optim.sampling.classes=0"], ["optim.sampling.classes"]),
        (["stage=vanilla", "data.label_noise=0.5"], ["data.label_noise"]),
    ],
)
def test_what_needs_labels_says_what_to_do_instead(overrides, said, options, tmp_path, cli):
    assert cli("train", *options, f"out={tmp_path}", *overrides).refuses(2, *said)


def test_the_rule_for_responses_is_refused_for_labels(cli, tmp_path):
    assert cli("train", "stage=vanilla", f"out={tmp_path}", "objective.crt.max_overlap=0.5").refuses(
        2, "data=instructions"
    )


@pytest.mark.slow
def test_exemplars_come_from_a_table_by_the_image_s_name(options, questions, tmp_path, cli):
    table, names = tmp_path / "vectors.jsonl", sorted(path.name for path in questions.parent.glob("*.png"))
    table.write_text(
        "".join(json.dumps({"id": name, "vector": [n % 3, n % 5, 1.0]}) + "\n" for n, name in enumerate(names))
    )
    more = [f"exemplar.table={table}", f"out={tmp_path}", "tsm.tune=all"]
    assert cli("train", *options, "stage=ep", *more).code == 0
    (run,) = (tmp_path / "questions").glob("ep-*")
    ended = cli("evaluate", f"run={run}", "exemplar=on", "generate=false")
    assert ended.code == 0, ended


@pytest.mark.slow
def test_samples_without_a_negative_are_counted_and_a_set_without_any_is_refused(options, tmp_path, cli):
    same = tmp_path / "same.jsonl"
    source = Path(next(word for word in options if word.startswith("data.path=")).split("=")[1])
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows = [{**row, "image": str(source.parent / row["image"])} for row in rows if "many" in row["instruction"]]

    def write(responses):
        kept = [{**row, "response": responses(n)} for n, row in enumerate(rows)]
        same.write_text("".join(json.dumps(row) + "\n" for row in kept))

    more = [f"data.path={same}", f"out={tmp_path}", "stage=vanilla", "stage.terms=[vanilla,crt]"]
    write(lambda n: "one" if n % 2 else "One.")
    assert cli("train", *options, *more).refuses(2, "no sample has another image with the same instruction")
    write(lambda n: "one red circle" if n % 2 else "one circle")
    ended = cli("train", *options, *more, "objective.crt.max_overlap=0.4", f"out={tmp_path}/b")
    assert ended.refuses(2, "token F1 below 0.4")
    train = [row for row in rows if row["split"] == "train"]
    first = next(n for n, row in enumerate(rows) if row["split"] == "train")
    write(lambda n: "two" if n == first else "one")
    unasked = json.dumps({**train[0], "instruction": "Else?", "response": "x"}) + "\n"
    same.write_text(same.read_text() + unasked)
    ended = cli("train", *options, *more, "objective.crt.negatives=dataset", f"out={tmp_path}/c")
    assert ended.code == 0, ended
    assert f"crt: 1 of {len(train) + 1} samples are left out" in ended.out


def test_data_inspect_shows_instructions(options, tmp_path, cli):
    ended = cli("data", "inspect", *options, f"out={tmp_path}")
    assert ended.code == 0, ended
    assert "open-ended, 40 images, 6 instructions" in ended.out
    assert "What color is it?" in ended.out
    assert (tmp_path / "questions/contact-sheet.png").is_file()
