"""Figures over seeds and their place in tables."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from vitask.reporting.beside import paper_table
from vitask.reporting.contrasts import contrast_tables
from vitask.reporting.details import curves, pooled_bins, pooled_confusion, row_pictures, row_tables, training_pictures
from vitask.reporting.missing import missing_of
from vitask.reporting.sections import merged
from vitask.reporting.study import Estimate, Result, Study, baselines, estimate, figure_of
from vitask.reporting.tables import cell, class_table, further_table, given_table, headline_table, set_table

from .studies import HOSTILE, LABELS, by_row, grid, metrics, mixture, run, study

RDA = f"+ RDA {HOSTILE}"


@pytest.mark.parametrize(
    ("value", "found"),
    [({"a": {"b": 0.5}}, 0.5), ({"a": {"b": None}}, None), ({"a": 3}, None), (None, None), ({}, None)],
)
def test_a_figure_is_looked_up_by_parts(value, found):
    assert figure_of(value, "a.b") == found


def test_what_is_no_number_is_no_figure():
    assert figure_of({"a": float("nan")}, "a") is None
    assert figure_of({"a": "0.5"}, "a") is None


def test_several_seeds_give_mean_and_spread_and_one_gives_its_interval():
    several = [{"accuracy": value, "intervals": {"accuracy": [0, 1]}} for value in (0.5, 0.7, 0.9)]
    assert estimate(several, "accuracy") == Estimate(
        pytest.approx(0.7), pytest.approx(statistics.stdev([0.5, 0.7, 0.9])), seeds=3
    )
    assert estimate(several[:1], "accuracy") == Estimate(0.5, None, 0, 1)
    assert estimate([*several[:1], {"accuracy": None}, None], "accuracy") == Estimate(0.5, None, 0, 1)
    assert estimate([{"accuracy": 0.5, "intervals": {"accuracy": [None, None]}}], "accuracy") == Estimate(0.5)
    assert estimate([], "accuracy") is None


def test_cells_show_three_decimals():
    assert cell(Estimate(0.12345, 0.01, seeds=2)) == ("0.123", "± 0.010")
    assert cell(Estimate(0.12345, None, 0.1, 0.2)) == ("0.123", "[0.100, 0.200]")
    assert cell(None) == ("-", "")


def test_the_headline_has_baselines_rows_and_both_modes():
    table = headline_table(study(), "test")
    assert table.columns == [(mode, name) for mode in ("w/o EP", "w/ EP") for name in ("accuracy", "macro-F1", "AUC")]
    assert table.groups == [("w/o EP", 3), ("w/ EP", 3)]
    rows = by_row(table)
    assert list(rows) == ["TSM", "majority class", "vanilla", RDA]
    assert rows["TSM"] == ["0.805 ± 0.007", "0.700 ± 0.000", "-", "", "", ""]
    assert rows["vanilla"][3:] == ["-", "-", "-"]
    values = [metrics("on", seed)["accuracy"] for seed in (0, 1)]
    assert rows[RDA][3] == f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    assert "seeds that a row has, of 0, 1" in table.note


def test_one_seed_has_intervals():
    table = headline_table(study(seeds=(3,)), "test")
    accuracy = metrics("off", 3)["accuracy"]
    assert by_row(table)["vanilla"][0] == f"{accuracy:.3f} [{accuracy - 0.05:.3f}, {accuracy + 0.05:.3f}]"
    assert "bootstrap" in table.note


def test_rows_with_different_majority_classes_name_them():
    found = study(seeds=(0,))
    last = found.results[-1]
    other = replace(last, row="other", mode="off", metrics={**last.metrics, "majority": {"accuracy": 0.12}})
    names = [name for name, _ in baselines(replace(found, results=[*found.results, other]), "test")]
    assert names == ["TSM", f"majority class of vanilla, {RDA}", "majority class of other"]


def test_what_knows_no_exemplar_stands_beside_the_model_without_one():
    found = study(seeds=(0,))
    before = replace(found.results[0], mode="untuned", metrics=metrics("untuned"))
    table = headline_table(replace(found, results=[before, *found.results]), "test")
    assert [group for group, _ in table.groups] == ["w/o EP", "w/ EP", "before tuning"]
    assert by_row(table)["TSM"] == ["0.800", "0.700", "-", *[""] * 6]


def test_a_grid_adds_its_own_columns_once():
    columns = headline_table(grid(study()), "test").columns
    assert [name for mode, name in columns if mode == "w/o EP"] == ["accuracy", "macro-F1", "AUC", f"free {HOSTILE}"]


def test_a_tsm_with_a_row_of_its_own_is_not_said_twice():
    found = study(seeds=(0,))
    own = Result("tsm", 0, "test", "tsm", {**metrics("tsm"), "accuracy": 0.8, "macro_f1": 0.7}, "digits")
    with_own = replace(found, results=[own, *found.results])
    assert [name for name, _ in baselines(with_own, "test")] == ["majority class"]
    rows = by_row(headline_table(with_own, "test"))
    assert rows["tsm"][:2] == ["0.800", "0.700"] or rows["tsm"][0].startswith("0.800")
    assert rows["tsm"][3:] == ["", "", ""]


def test_rows_with_different_tsms_name_them():
    found = study(seeds=(0,))
    last = found.results[-1]
    other = replace(last, row="other", mode="off", metrics={**last.metrics, "tsm": {"accuracy": 0.1, "macro_f1": 0.1}})
    names = [name for name, _ in baselines(replace(found, results=[*found.results, other]), "test")]
    assert names == [f"TSM of vanilla, {RDA}", "TSM of other", "majority class"]


def test_a_tsm_alone_has_one_set_of_columns():
    found = Study("tsm", "", [Result("tsm", 0, "test", "tsm", metrics("tsm"), "digits")])
    assert {group for group, _ in headline_table(found, "test").columns} == {"TSM"}


def test_further_figures_are_those_that_are_there():
    table = further_table(study(seeds=(0,)), "test")
    names = [name for _, name in table.columns]
    assert names == [
        "balanced accuracy",
        "log-likelihood",
        "Brier",
        "ECE",
        *(f"free form, {n}" for n in ("accuracy", "macro-F1", "no label")),
    ]
    assert list(by_row(table)) == ["vanilla, w/o EP", f"{RDA}, w/o EP", f"{RDA}, w/ EP"]
    assert by_row(table)["vanilla, w/o EP"][-1] == "0.250"
    assert further_table(Study("", "", [Result("a", 0, "test", "off", {"accuracy": 1.0}, "d")]), "test") is None


def test_classes_have_their_images_and_figures_of_each_mode():
    table = class_table("labels", {"off": [metrics("off", 0), metrics("off", 1)], "on": [metrics("on", 0)]})
    assert [name for name, _ in table.rows] == list(LABELS)
    assert table.columns[0] == ("", "images")
    assert table.groups == [("", 1), ("w/o EP", 4), ("w/ EP", 4)]
    assert by_row(table)[LABELS[0]][1:5] == ["-", "0.500 ± 0.000", "0.600 ± 0.000", "0.900 ± 0.000"]
    assert class_table("labels", {"off": [{"accuracy": 1.0}]}) is None


def test_a_mixture_has_a_line_a_set_and_their_mean():
    found = mixture()
    table = set_table("vanilla", {"off": [found.results[0].metrics]})
    assert [name for name, _ in table.rows] == ["Path", HOSTILE, "mean"]
    assert by_row(table)["Path"][0] == "0.500"
    assert [t.title for t in row_tables(found, "vanilla", "test")] == [
        "vanilla: data sets", "vanilla, pathmnist: labels", f"vanilla, {HOSTILE}: labels",
    ]  # fmt: skip
    assert len([p for p in row_pictures(found, "vanilla", "test") if p.caption.startswith("Confusion")]) == 2


def test_the_paper_s_figures_stand_beside_a_run_on_its_data():
    overrides = ["data=medmnist", "data.name=dermamnist", "data.root=x"]
    runs = {
        "VITask": [run("a", 0, "stage=crt", *overrides)],
        "CSA": [run("b", 0, "stage=crt", "objective=csa", *overrides)],
    }
    results = [
        Result(row, 0, "test", "on", {**metrics("on", tsm=None), "accuracy": 0.9, "macro_f1": 0.7}, "dermamnist")
        for row in runs
    ]
    table = paper_table(Study("Derma", "", results, runs), "test")
    assert by_row(table) == {
        "VITask, w/ EP, Derma": [
            "Table 1",
            by_row(table)["VITask, w/ EP, Derma"][1],
            "0.877",
            "+0.023",
            "0.700",
            "0.772",
            "-0.072",
        ]
    }


OTHER_METHODS = {
    "tower tuned": ["objective=vanilla", "vlm.train_tower=true"],
    "answer as text": ["objective=vanilla", "data.instruction.hint=true"],
    "RDA*": ["objective=rda", "objective.rda.detach_teacher=false"],
    "constant exemplar": ["objective=joint", "exemplar.content=constant"],
    "all patches": ["objective=joint", "exemplar=all"],
    "no list of labels": ["objective=vanilla", "data.instruction.complete=false"],
    "smoothed": ["objective=smoothed"],
}


def test_what_the_paper_s_tables_do_not_have_stands_beside_none_of_their_rows():
    runs = {row: [run(row, 0, "stage=crt", *overrides)] for row, overrides in OTHER_METHODS.items()}
    runs["plain"] = [run("plain", 0, "stage=crt", "objective=vanilla")]
    results = [Result(row, 0, "test", "off", metrics("off"), "dermamnist") for row in runs]
    rows = by_row(paper_table(Study("Derma", "", results, runs), "test"))
    assert list(rows) == ["plain, w/o EP, Derma", "TSM, Derma"]
    assert [each[0] for each in rows.values()] == ["Table 1", "Table 1"]


def test_exemplars_that_an_evaluation_alone_replaces_are_none_of_the_paper_s():
    runs = {"VITask": [run("a", 0, "stage=crt", "data=medmnist", "data.name=dermamnist", "data.root=x")]}
    for title in ("exemplar content", "exemplars"):
        figures = {**metrics("on"), "conditions": {title: "of another image"}}
        assert (
            paper_table(Study("Derma", "", [Result("VITask", 0, "test", "on", figures, "dermamnist")], runs), "test")
            is None
        )


def test_a_grid_that_repeats_a_figure_stands_beside_its_rows():
    results = [
        Result(row, 0, "test", "off", metrics("off", tsm=None), "dermamnist")
        for row in ("vanilla, incomplete", "VITask, complete", "mine")
    ]
    study = Study("Instructions", "", results, grid={"grid": {"paper": "fig4"}})
    rows = by_row(paper_table(study, "test"))
    assert {name: (each[0], each[-2]) for name, each in rows.items()} == {
        "vanilla, incomplete, w/o EP, Derma": ("Figure 4", "0.423"),
        "VITask, complete, w/o EP, Derma": ("Figure 4", "0.633"),
    }


def test_a_plugged_tsm_is_compared_with_the_paper_s_plug():
    runs = {"VITask": [run("a", 0, "stage=crt", "data=medmnist", "data.name=retinamnist", "data.root=x")]}
    results = [
        Result("VITask", 0, "IDRiD", "on", {**metrics("on"), "accuracy": 0.5}, "idrid", plugged=plugged)
        for plugged in (True,)
    ]
    table = paper_table(Study("Retina", "", results, runs), "IDRiD")
    assert by_row(table)["VITask, w/ EP, IDRiD"][:4:3] == ["Table 3", "-0.044"]


@pytest.mark.parametrize(
    "change", [{"data": "digits"}, {"metrics": {**metrics("on"), "split": "val"}}, {"mode": "untuned"}]
)
def test_the_paper_says_nothing_of_other_data_splits_and_modes(change):
    runs = {"a": [run("a", 0, "stage=crt", "data=medmnist", "data.name=dermamnist", "data.root=x")]}
    result = replace(Result("a", 0, "test", "on", metrics("on", tsm=None), "dermamnist"), **change)
    assert paper_table(Study("", "", [result], runs), "test") is None


def test_labels_that_an_image_may_share_are_counted_as_given_missed_or_wrong():
    tables = {"cyst": [[5, 1], [2, 3]], "scar": [[9, 0], [1, 1]]}
    by_mode = {"off": [{"confusion_by_label": tables}, {"confusion_by_label": tables}], "on": [{"accuracy": 1.0}]}
    found = given_table("", by_mode)
    assert found.columns == [("w/o EP", name) for name in ("given rightly", "missed", "given wrongly")]
    assert by_row(found) == {"cyst": ["6", "4", "2"], "scar": ["2", "2", "0"]}
    assert given_table("", {"off": [{"confusion": [[1]]}]}) is None


def test_a_grid_has_differences_and_effects_paired_by_seed():
    differences, effects = contrast_tables(grid(study()))
    gains = [metrics("off", seed)["accuracy"] - metrics("off", seed)["accuracy"] for seed in (0, 1)]
    assert by_row(differences)[RDA][0].startswith(f"{statistics.mean(gains):+.3f}")
    assert by_row(effects)[f"effect {HOSTILE}"][0] == "accuracy"
    assert by_row(effects)[f"effect {HOSTILE}"][-2:] == ["better", "not tested"]
    assert list(contrast_tables(grid(study(seeds=(0,))))) == []
    assert list(contrast_tables(study())) == []


def test_confusions_and_bins_of_seeds_are_put_together():
    assert pooled_confusion([{"confusion": [[1, 2], [3, 4]]}, {"confusion": [[10, 20], [30, 40]]}, {}]) == [
        [11, 22],
        [33, 44],
    ]
    bins = [{"confidence": 0.95, "accuracy": 1.0, "count": 1}, {"confidence": 0.1, "accuracy": 0.0, "count": 2}]
    other = [{"confidence": 0.99, "accuracy": 0.5, "count": 3}, {"confidence": 1.0, "accuracy": 1.0, "count": 0}]
    low, high = pooled_bins([{"reliability": bins}, {"reliability": other}, {}])
    assert low == {"confidence": 0.1, "accuracy": 0.0, "count": 2}
    assert high == {"confidence": pytest.approx(0.98), "accuracy": pytest.approx(0.625), "count": 4}


def test_curves_put_stages_behind_each_other_and_average_seeds():
    def staged(seed: int, loss: float):
        first, second = run("ep", seed, "stage=ep"), run("crt", seed, "stage=crt")
        return [
            replace(each, log=[{"step": 10, "loss": loss}, {"step": 20, "loss": loss + 1}]) for each in (first, second)
        ]

    lines, boundaries = curves([staged(0, 1.0), staged(1, 3.0)])
    assert lines == {"loss": ([10, 20, 30, 40], [2.0, 3.0, 2.0, 3.0])}
    assert boundaries == [(0.0, "ep"), (20.0, "crt")]


def test_curves_leave_out_what_was_not_finite():
    log = [{"step": 10, "loss": None, "grad_norm": None}, {"step": 20, "loss": 0.5, "grad_norm": None}]
    assert curves([[replace(run("ep", 0, "stage=ep"), log=log)]])[0] == {"loss": ([20], [0.5])}


def test_training_is_shown_as_losses_and_rate():
    captions = [picture.caption for picture in training_pictures(study().runs["vanilla"])]
    assert captions == ["Losses: their weighted sum, and each part before it is weighted.", "Learning rate."]
    assert list(training_pictures([replace(run("a", 0, "stage=ep"), log=[])])) == []


def test_a_sentence_is_said_once_with_its_rows():
    said = {"a": ["Everywhere.", "Nearly."], "b": ["Everywhere.", "Nearly.", "Here."], "c": ["Everywhere."]}
    assert merged(said) == [("Everywhere.", ""), ("Nearly.", "all but c"), ("Here.", "b")]
    assert merged({}) == []


def test_what_is_missing_comes_with_a_command():
    found, left_out = study(seeds=(0,)), ("per_class", "pairs", "intervals", "generated")
    bare = [replace(r, metrics={k: v for k, v in r.metrics.items() if k not in left_out}) for r in found.results]
    notes = {note.text.rpartition(": ")[2]: note.command for note in missing_of(replace(found, results=bare))}
    assert set(notes) == {
        "no figures by label, confusion, reliability.",
        "no bootstrap intervals.",
        "no ranking densities.",
        "no free-form answers, so no share of them that is no label.",
    }
    command = notes["no ranking densities."]
    assert command.startswith("vitask evaluate 'run=runs/<script>")
    assert command.endswith("split=test ranking=true")
    assert list(missing_of(found)) == []


def test_a_linear_head_lacks_nothing_that_only_answers_have():
    runs = {"head": [run("head", 0, "stage=head")]}
    bare = [Result("head", 0, "test", "off", {"accuracy": 0.5}, "digits")]
    said = {note.text.partition(": ")[2] for note in missing_of(Study("", "", bare, runs))}
    assert said == {"no figures by label, confusion, reliability.", "no bootstrap intervals."}


def test_a_row_without_its_exemplar_mode_is_said():
    found = study(seeds=(0,))
    only_off = replace(found, results=[result for result in found.results if result.mode == "off"])
    assert [note.text for note in missing_of(only_off)] == [f"{RDA} is not evaluated with the exemplar."]


def test_a_grid_without_runs_says_so():
    notes = list(missing_of(replace(grid(study()), runs={})))
    assert "its runs are not beside it" in notes[0].text
