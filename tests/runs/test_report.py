"""`vitask report`: from trained runs, whose labels try to break the page, to the page and its tables."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.conftest import call
from tests.reporting.browser import Browser, find_browser
from tests.reporting.test_browser import TOO_WIDE
from tests.reporting.test_page import Reader
from vitask.reporting.export import latex_escape
from vitask.runs.report_images import _predictions, thumbnail
from vitask.runs.report_rows import _named

TEXTS = {"bar": "<script>alert('bar')</script>", "dot": 'a "dot" & more', "row": "x|y $z$ {w}_% \\"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def trained(shapes, small, tmp_path_factory) -> Path:
    """A TSM and a run of stage 1 on a copy of the images, evaluated."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(shapes, folder / "shapes")
    (folder / "labels.yaml").write_text(yaml.safe_dump({"labels": TEXTS}))
    own = [each for each in small if not each.startswith(("data.root", "cache"))]
    own += [f"data.root={folder / 'shapes'}", f"data.label_file={folder / 'labels.yaml'}", f"cache={folder / 'cache'}"]
    ended = call(["train", "stage=ep", *own, f"out={folder / 'runs'}", "data.label_noise=0.25"])
    assert ended.code == 0, ended
    for run in (folder / "runs" / "shapes").iterdir():
        options = ["ranking=true"] if run.name.startswith("ep") else []
        assert call(["evaluate", f"run={run}", *options]).code == 0
    return folder


@pytest.fixture
def own(trained, tmp_path) -> Path:
    """A copy of the runs that a test may change."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def reported(trained) -> Path:
    """The report of all of them."""
    ended = call(["report", trained / "runs", f"out={trained / 'report'}"])
    assert ended.code == 0, ended
    assert ended.out == f"{trained / 'report' / 'report.html'}, tables.md, tables.tex, tables.csv\n"
    return trained / "report"


def run_of(runs: Path, stage: str) -> Path:
    (found,) = (runs / "shapes").glob(f"{stage}-seed0-*")
    return found


def metrics(run: Path, mode: str) -> dict:
    return json.loads((run / "eval" / f"test-{mode}" / "metrics.json").read_text())


def read(folder: Path) -> str:
    return " ".join(" ".join(Reader((folder / "report.html").read_text()).texts).split())


def report(folders: list[Path], out: Path, *options: str):
    ended = call(["report", *folders, f"out={out}", *options])
    assert ended.code == 0, ended
    return read(out)


def make_grid(runs: Path) -> Path:
    """A grid's folder beside the runs, as `vitask ablate` would have written it."""
    found = [metrics(run_of(runs, "ep"), mode) for mode in ("off", "on")]
    folder = runs / "ablations" / "mine"
    folder.mkdir(parents=True)
    grid = {"title": "my <b>grid</b>", "conditions": "", "references": ["+ RDA"], "rows": {"+ RDA": []}, "seeds": [0]}
    text = json.dumps({"name": "mine", "grid": grid, "overrides": [], "results": {"0": {"+ RDA": found}}})
    (folder / "results.json").write_text(text)
    return folder


def test_no_label_breaks_the_page_or_a_table(reported):
    text = (reported / "report.html").read_text()
    page = Reader(text)
    assert "<script" not in text
    assert "script" not in [tag for tag, _ in page.elements]
    shown = read(reported)
    assert all(label in shown for label in TEXTS.values())
    tables = {name: (reported / f"tables.{name}").read_text() for name in ("md", "tex", "csv")}
    assert "<script" not in tables["md"]
    assert all(latex_escape(label) in tables["tex"] for label in TEXTS.values())
    assert {row["label"] for row in csv.DictReader(io.StringIO(tables["csv"]))} == {"", *TEXTS.values()}


def test_the_figures_are_those_of_the_runs(reported, trained):
    rows = list(csv.DictReader(io.StringIO((reported / "tables.csv").read_text())))
    for stage, mode, name in (("ep", "off", "ep"), ("ep", "on", "ep"), ("tsm", "tsm", "TSM")):
        expected = metrics(run_of(trained / "runs", stage), mode)
        found = {r["metric"]: float(r["value"]) for r in rows if (r["row"], r["mode"], r["label"]) == (name, mode, "")}
        assert found["accuracy"] == expected["accuracy"]
        assert found["macro_f1"] == expected["macro_f1"]
        assert f"{expected['accuracy']:.3f}" in (reported / "tables.md").read_text()


def test_the_page_shows_what_was_asked_for(reported):
    shown = read(reported)
    for words in (
        "w/o EP", "w/ EP", "majority class", "Deviations from the paper", "The label texts are one's own",
        "25% of the training labels are replaced", "Confusion", "Reliability", "Ranking", "Losses", "Learning rate",
        "On the validation split", "What the exemplar changed", "Settings", "fingerprint",
        "transformers", "label noise",
    ):  # fmt: skip
        assert words in shown, words
    assert "is not evaluated" not in shown


def test_examples_show_the_images(reported, trained):
    page = Reader((reported / "report.html").read_text())
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert images
    assert all((each["width"], each["height"]) == ("8", "8") for each in images)
    assert (reported / "report.html").stat().st_size < 1_000_000


def test_without_the_exemplar_they_show_what_was_answered_rightly_and_wrongly(own, tmp_path):
    shutil.rmtree(run_of(own, "ep") / "eval/test-on")
    shown = report([own], tmp_path / "report")
    assert "Answered rightly" in shown or "Answered wrongly" in shown
    assert "What the exemplar changed" not in shown


def test_a_damaged_tsm_costs_its_vlm_no_place(own, tmp_path):
    (run_of(own, "tsm") / "summary.json").write_text("{")
    shown = report([own], tmp_path / "report")
    assert "its cost is left out" in shown
    assert "What the exemplar changed" in shown


def test_a_browser_shows_it_without_complaint(reported):
    if find_browser() is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with Browser(find_browser()) as browser:
        for width in (1280, 360):
            browser.show(reported / "report.html", width)
            assert browser.value(TOO_WIDE) == []
        assert browser.complaints == []


def test_no_image_leaves_the_data_unasked(trained, tmp_path):
    shown = report([trained / "runs"], tmp_path, "examples=0")
    assert "data:image" not in (tmp_path / "report.html").read_text()
    assert "What the exemplar changed" not in shown


def test_without_the_images_the_rest_is_there(trained, tmp_path):
    (trained / "shapes").rename(tmp_path / "elsewhere")
    try:
        shown = report([run_of(trained / "runs", "ep")], tmp_path)
    finally:
        (tmp_path / "elsewhere").rename(trained / "shapes")
    assert "The images are left out" in shown
    assert "What the exemplar changed" in shown
    assert "data:image" not in (tmp_path / "report.html").read_text()


def test_runs_that_differ_by_their_seed_are_one_row(own, tmp_path):
    first = run_of(own, "ep")
    second = first.with_name(first.name.replace("seed0", "seed1"))
    shutil.copytree(first, second)
    config = yaml.safe_load((second / "config.yaml").read_text())
    (second / "config.yaml").write_text(yaml.safe_dump({**config, "seed": 1}))
    path = second / "eval/test-off/metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "accuracy": 0.25}))
    report([own], tmp_path)
    rows = csv.DictReader(io.StringIO((tmp_path / "tables.csv").read_text()))
    found = next(r for r in rows if (r["row"], r["mode"], r["metric"], r["label"]) == ("ep", "off", "accuracy", ""))
    assert found["seeds"] == "2"
    assert float(found["value"]) == pytest.approx((metrics(first, "off")["accuracy"] + 0.25) / 2)


def test_a_grid_finds_its_runs_and_is_not_repeated_by_them(own, tmp_path):
    folder = make_grid(own)
    alone = report([folder], tmp_path / "alone")
    assert "my <b>grid</b>" in alone
    assert "Deviations from the paper" in alone
    assert "What the exemplar changed" in alone
    both = report([own], tmp_path / "both")
    assert both.count("Row by row") == 1
    assert "## shapes" not in (tmp_path / "both" / "tables.md").read_text()


def test_a_grid_without_its_runs_keeps_its_figures(own, tmp_path):
    folder = make_grid(own)
    shutil.move(folder, tmp_path / "far" / "away" / "mine")
    shown = report([tmp_path / "far"], tmp_path)
    assert "its runs are not beside it" in shown
    assert "Confusion, w/ EP." in shown


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(own, tmp_path):
    run_of(own, "tsm").joinpath("config.yaml").write_text("seed: [")
    ep = run_of(own, "ep")
    (ep / "eval/test-on/metrics.json").write_text("{")
    shutil.copytree(ep, ep.with_name("ep-unfinished"))
    (ep.with_name("ep-unfinished") / "summary.json").unlink()
    (own / "ablations" / "mine").mkdir(parents=True)
    (own / "ablations" / "mine" / "results.json").write_text('{"results": {}}')
    shown = report([own], tmp_path)
    assert "tsm-seed0" in shown
    assert "config.yaml: damaged, or written by another version" in shown
    assert "test-on: left out, metrics.json: missing or damaged" in shown
    assert "ep-unfinished: not finished; the command that began it resumes it." in shown
    assert "results.json: left out, damaged or of another version" in shown
    assert "ep is not evaluated with the exemplar. vitask evaluate run=" in shown


def test_runs_that_are_not_evaluated_come_with_the_command(own, tmp_path):
    shutil.rmtree(run_of(own, "tsm") / "eval")
    shutil.rmtree(run_of(own, "ep") / "eval")
    ended = call(["report", own, f"out={tmp_path / 'report'}"])
    assert ended.refuses(2, "nothing is evaluated; vitask evaluate ", run_of(own, "ep").name)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["absent"], ["absent: no such folder"]),
        (["."], ["neither a run nor a grid is in there"]),
        (["examples=1"], ["give folders that vitask train or vitask ablate wrote"]),
        ([".", "exmaples=1"], ["unknown config key 'exmaples'", "examples"]),
        ([".", "examples=-1"], ["examples: -1 is out of range"]),
    ],
)
def test_a_wrong_request_is_one_line(arguments, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(["report", *arguments]).refuses(2, *texts)


def test_rows_are_named_after_what_differs():
    settings = [{"a": 1, "b": None, "c": True}, {"a": 2, "b": None, "c": True}, {"a": 1, "b": "x", "c": False}]
    assert _named(["ep", "ep", "crt"], settings) == ["ep (a=1)", "ep (a=2)", "crt"]
    assert _named(["ep", "ep", "ep"], settings)[2] == "ep (a=1, b=x, c=false)"
    assert _named(["ep", "ep"], [{"a": 1}, {"a": 1}]) == ["ep #1", "ep #2"]
    many = [dict.fromkeys("abcde", value) for value in (0.5, 1.0)]
    assert _named(["ep", "ep"], many)[0] == "ep (a=0.5, b=0.5, c=0.5 and 2 more)"


@pytest.mark.parametrize(
    ("mode", "size", "shown"), [("L", (8, 8), (8, 8)), ("RGBA", (300, 150), (112, 56)), ("1", (9, 9), (9, 9))]
)
def test_images_are_shrunk_to_a_thumbnail(mode, size, shown):
    found = thumbnail(Image.new(mode, size))
    assert (found.width, found.height) == shown
    assert found.uri.startswith("data:image/png;base64,")


def test_predictions_of_a_mixture_are_named_after_their_set(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.csv").write_text("id,truth\n1.png,x\n")
    assert [row["id"] for row in _predictions(tmp_path)] == ["a/1.png", "b/1.png"]
