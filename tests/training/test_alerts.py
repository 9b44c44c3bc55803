"""What is said while a run goes wrong, and that a run that goes well hears nothing."""

from __future__ import annotations

import json
import random

import pytest

from vitask.training import alerts
from vitask.training.alerts import Alerts

from .toy import ToyTask, log_lines, make_loop, train

USUAL = {"loss": 1.0, "grad_norm": 1.0}


def steps(values, *, watch=None, start=1, **timing):
    """Feed the values of steps to a watcher and return what it said, each with its step."""
    watch = watch or Alerts(workers=2)
    timing = {"waited": 0.0, "took": 1.0, **timing}
    return [
        (step, text)
        for step, each in enumerate(values, start=start)
        for text in watch.observe(step, {**USUAL, **each}, **timing)
    ]


def noisy(count, **changes):
    """Steps of a healthy run: norms within a factor of three, the teacher ahead, few samples without a negative."""
    rng = random.Random(0)
    healthy = {"rda": 0.3, "vanilla": 1.2, "ep": 0.9, "without_negative": 0.1, **changes}
    return [{**healthy, "grad_norm": rng.uniform(0.5, 1.5)} for _ in range(count)]


def test_a_healthy_run_hears_nothing():
    assert steps(noisy(500), waited=0.3, took=1.0) == []


def test_one_hard_batch_is_no_explosion():
    values = noisy(60)
    values[30]["grad_norm"] = values[50]["grad_norm"] = 18.0
    assert steps(values) == []


def test_a_gradient_norm_that_runs_away_is_said_once():
    values = [*noisy(20), *({"grad_norm": norm} for norm in (20.0, 40.0, 80.0, 160.0, 320.0))]
    ((step, text),) = steps(values)
    assert step == 23
    assert "the gradient norm is 80, its median over the steps before" in text
    assert "optim.lr" in text


def test_norms_that_grow_at_the_start_say_nothing():
    assert steps([{"grad_norm": norm} for norm in (1e-3, 1.0, 5.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0)]) == []


def test_images_without_another_label_beside_them_are_said():
    ((step, text),) = steps([{"image_ranking": 0.0}] * 30)
    assert step == alerts.ENOUGH
    assert "100% of the steps had no image with another label" in text
    assert "optim.micro_batch_size" in text
    assert steps([{"image_ranking": 1e-6}, {"image_ranking": 0.0}] * 30) == []


def test_a_teacher_worse_than_its_student_is_said():
    ((step, text),) = steps(noisy(80, ep=1.5))
    assert step == alerts.WINDOW
    assert "RDA's teacher is worse than its student: over 50 steps the right response costs 1.500" in text


@pytest.mark.parametrize("missing", ["rda", "ep", "vanilla"])
def test_without_rda_there_is_no_teacher(missing):
    values = [{key: value for key, value in each.items() if key != missing} for each in noisy(80, ep=1.5)]
    assert steps(values) == []


def test_a_teacher_that_is_worse_for_a_while_is_let_go():
    assert steps([*noisy(20, ep=1.3), *noisy(60)]) == []


def test_crt_without_candidates_is_said():
    ((step, text),) = steps(noisy(30, without_negative=0.75))
    assert step == alerts.ENOUGH
    assert "75% of the samples have no negative image" in text


def test_a_starving_loop_is_said_once_the_waiting_adds_up():
    ((step, text),) = steps(noisy(40), waited=3.0, took=4.0)
    assert step == 10
    assert "75% of the time of the last 10 steps went into waiting for data" in text
    assert "launch.workers (now 2)" in text


def test_short_waits_are_not_worth_a_word():
    assert steps(noisy(200), waited=0.3, took=0.4) == []


def test_steps_that_fp16_skips_are_said_when_there_is_no_end_of_them():
    assert steps([{"grad_norm": float("inf")}] * 9, skipped=True) == []
    ((step, text),) = steps([{"grad_norm": float("inf")}] * 30, skipped=True)
    assert step == alerts.SKIPPED
    assert "fp16 skipped them all" in text


def collapsed(count, said=(24, 0), right=(12, 12)):
    """Steps whose answers all begin with the first of two tokens, which is right for half of them."""
    return [{"answers": [list(said), list(right)]}] * count


def answered(values, watch, start=1):
    return [
        (step, text)
        for step, each in enumerate(values, start=start)
        for text in watch.observe(step, USUAL, waited=0.0, took=1.0, **each)
    ]


def test_answers_that_have_become_one_are_said_in_the_second_half():
    ((step, text),) = answered(collapsed(300), Alerts(steps=200))
    assert step == 100 + alerts.WINDOW
    assert text.startswith(
        "100% of the answers of the last 50 steps begin alike, which is right for 50%: the model has"
    )
    assert answered(collapsed(90), Alerts(steps=200)) == []


@pytest.mark.parametrize(
    "change",
    [{"said": (23, 1)}, {"right": (22, 2)}, {"said": (0, 0)}],
    ids=["not all", "nearly all are so", "no answer of the set at all"],
)
def test_answers_that_differ_or_are_right_say_nothing(change):
    assert answered(collapsed(300, **change), Alerts(steps=200)) == []


def test_a_resumed_watcher_remembers_the_answers():
    first, second = Alerts(steps=200), Alerts(steps=200)
    assert answered(collapsed(130), first) == []
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [step for step, _ in answered(collapsed(70), second, start=131)] == [150]


def test_a_resumed_watcher_goes_on_as_if_nothing_had_been():
    values = [*noisy(20), *({"grad_norm": norm} for norm in (20.0, 40.0, 80.0, 160.0, 320.0))]
    expected = steps(values)
    for cut in (10, 22, 24):
        first, second = Alerts(), Alerts()
        before = steps(values[:cut], watch=first)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        after = steps(values[cut:], watch=second, start=cut + 1)
        assert [*before, *after] == expected
        assert second.raised == [{"step": step, "warning": text} for step, text in expected]


class Alone(ToyTask):
    """A toy whose samples never have a negative image."""

    def forward(self, batch, totals, progress):
        parts = super().forward(batch, totals, progress)
        return {**parts, "without_negative": parts["loss"].detach() * 0 + 1}


def test_the_loop_prints_logs_and_keeps_what_is_said(tmp_path, accelerator, capsys):
    train(tmp_path, accelerator, Alone(), epochs=5)
    (row,) = [row for row in log_lines(tmp_path) if "warning" in row]
    assert row["step"] == alerts.ENOUGH
    assert capsys.readouterr().out.count("no negative image") == 1
    assert "warning" in (tmp_path / "log.csv").read_text().splitlines()[0]
    again = make_loop(tmp_path, accelerator, Alone(), epochs=6)
    assert again.alerts.raised == [{"step": row["step"], "warning": row["warning"]}]


def test_a_usual_toy_run_says_nothing(tmp_path, accelerator, capsys):
    train(tmp_path, accelerator, epochs=10)
    assert not [row for row in log_lines(tmp_path) if "warning" in row]
    assert "warning" not in capsys.readouterr().out
