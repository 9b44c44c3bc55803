"""`vitask predict`: images of one's own, with and without the exemplar."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from vitask.export.plain import read_prompt
from vitask.runs.predictor import Answers

from .test_evaluate import predictions

LABELS = {"bar", "dot", "row"}
LINE = re.compile(r"(?P<path>.+): (?P<label>\w+) \((?P<rest>[^()]+)\)")


def answers(out: str) -> dict[str, dict[str, float]]:
    """Read what predict prints: for each path the probabilities, in the order in which they are shown."""
    found = {}
    for line in out.splitlines():
        if match := LINE.fullmatch(line):
            rest = dict(item.rsplit(" ", 1) for item in match["rest"].split(", "))
            found[match["path"]] = {label: float(p) for label, p in rest.items()}
            assert next(iter(rest)) == match["label"]
    return found


@pytest.mark.parametrize("stage", ["tsm", "vanilla", "ep", "crt"])
def test_every_image_gets_a_line_with_probabilities_in_falling_order(stage, pipeline, shapes, cli):
    ended = cli("predict", f"run={pipeline.run(stage)}", shapes / "test/bar/0.png", shapes / "test/dot")
    assert ended.code == 0, ended
    found = answers(ended.out)
    assert list(found) == [f"{shapes}/test/bar/0.png", *(f"{shapes}/test/dot/{n}.png" for n in range(4))]
    for row in found.values():
        assert set(row) == LABELS
        assert list(row.values()) == sorted(row.values(), reverse=True)
        assert sum(row.values()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(("stage", "mode"), [("tsm", "tsm"), ("vanilla", "off"), ("crt", "off"), ("crt", "on")])
def test_it_says_what_evaluate_says(stage, mode, own_pipeline, shapes, cli):
    run = own_pipeline.run(stage)
    assert cli("evaluate", f"run={run}", "generate=false", "overwrite=true").code == 0
    expected = {row["id"]: row for row in predictions(run, mode)}
    options = [] if stage == "tsm" else [f"exemplar={'on' if mode == 'on' else 'off'}"]
    ended = cli("predict", f"run={run}", *options, *(shapes / "test" / name for name in sorted(LABELS)))
    found = answers(ended.out)
    assert len(found) == 12
    for path, row in found.items():
        wanted = expected[path.removeprefix(f"{shapes}/")]
        assert row == pytest.approx({label: float(wanted[f"p({label})"]) for label in row}, abs=6e-4)


@pytest.mark.slow
def test_images_are_shrunk_as_those_of_the_data_set_were(small, shapes, tmp_path, cli):
    """They have 8 x 8 pixels, and a set that is shrunk to 5; TSM and VLM see the same pixels as in evaluation."""
    words = [*small, "data.size=5", "stage=ep", f"out={tmp_path}"]
    assert cli("train", *words).code == 0
    files = sorted((shapes / "test").rglob("*.png"))
    for stage, mode, options in (("tsm", "tsm", []), ("ep", "on", ["exemplar=on"]), ("ep", "off", ["exemplar=off"])):
        (run,) = tmp_path.glob(f"*/{stage}-*")
        assert cli("evaluate", f"run={run}", "generate=false", "overwrite=true").code == 0
        expected = {row["id"]: row for row in predictions(run, mode)}
        found = answers(cli("predict", f"run={run}", *options, *files).out)
        assert len(found) == len(files)
        for path, row in found.items():
            wanted = expected[path.removeprefix(f"{shapes}/")]
            assert row == pytest.approx({label: float(wanted[f"p({label})"]) for label in row}, abs=6e-4)


def test_an_exported_model_is_shown_an_image_that_is_shrunk_as_well():
    class Processor:
        def apply_chat_template(self, messages, **_):
            self.image = messages[0]["content"][0]["image"]
            return SimpleNamespace(to=lambda *_: "inputs")

    processor, model = Processor(), SimpleNamespace(device="cpu", dtype=torch.float32)
    for size, shape in ((None, (40, 20)), (64, (40, 20)), (10, (20, 10))):
        question = {"size": size, "image_options": {}}
        read_prompt(model, processor, question, Image.new("RGB", (40, 20)), "What is it?")
        assert processor.image.size == shape


def test_a_run_without_exemplar_says_so_and_answers_without(pipeline, shapes, cli):
    ended = cli("predict", f"run={pipeline.run('vanilla')}", "exemplar=on", shapes / "test/bar/0.png")
    assert ended.code == 0
    assert "this run was tuned without exemplar, so it answers without" in ended.out
    assert len(answers(ended.out)) == 1


def test_without_the_exemplar_the_tsm_is_not_needed(own_pipeline, shapes, cli):
    shutil.rmtree(own_pipeline.run("tsm"))
    image, run = shapes / "test/bar/0.png", f"run={own_pipeline.run('ep')}"
    assert cli("predict", run, "exemplar=off", image).code == 0
    assert cli("predict", run, image).refuses(1, "there is no finished TSM")


def test_the_answer_of_several_labels_is_the_set_that_the_run_gives(pipeline, shapes, cli, monkeypatch):
    """The likeliest set need not begin with the likeliest label; without answers in words it may be empty."""
    rows, sets = torch.tensor([[0.6, 0.7, 0.6], [0.4, 0.3, 0.2]]), [(0, 2), ()]
    said = Answers(["bar", "dot", "row"], rows, sets, ["bar, row", ""])
    fake = SimpleNamespace(names=["shapes"], sees_exemplar=False, answer=lambda *args, **kwargs: said)
    monkeypatch.setattr("vitask.runs.predict.open_predictor", lambda *args: fake)
    images = [shapes / f"test/bar/{number}.png" for number in range(2)]
    ended = cli("predict", f"run={pipeline.run('vanilla')}", "exemplar=off", *images)
    assert ended.out.splitlines() == [
        f"{images[0]}: bar, row (dot 0.700, bar 0.600, row 0.600)",
        f"{images[1]}: (no label) (bar 0.400, dot 0.300, row 0.200)",
    ]


@pytest.fixture
def moved(shapes):
    """The data in another place, until the test ends."""
    yield shapes.rename(shapes.with_name("moved"))
    shapes.with_name("moved").rename(shapes)


def test_the_data_of_the_run_is_not_needed(pipeline, moved, monkeypatch, tmp_path, cli):
    monkeypatch.chdir(tmp_path)
    assert cli("predict", f"run={pipeline.run('ep')}", moved / "test/bar/0.png").code == 0


def test_the_batch_size_changes_nothing(pipeline, shapes, cli):
    one, many = (
        cli("predict", f"run={pipeline.run('ep')}", f"batch_size={n}", shapes / "test/row").out for n in (1, 9)
    )
    assert answers(one) == {path: pytest.approx(row, abs=1e-3) for path, row in answers(many).items()}


def test_colours_and_sizes_are_taken_as_they_come(pipeline, tmp_path, cli):
    from PIL import Image

    for name, mode, size in (("a.png", "RGBA", (20, 9)), ("b.jpg", "RGB", (300, 200)), ("c d=e.png", "P", (8, 8))):
        Image.new(mode, size).save(tmp_path / name)
    ended = cli("predict", f"run={pipeline.run('ep')}", tmp_path, tmp_path / "c d=e.png")
    assert ended.code == 0, ended
    assert [path.rpartition("/")[2] for path in answers(ended.out)] == ["a.png", "b.jpg", "c d=e.png"]


def test_of_a_folder_it_takes_what_training_takes(pipeline, tmp_path, cli):
    """Images at any depth, of every kind that Pillow reads, and nothing hidden."""
    from PIL import Image

    wanted = ["b/2.ppm", "b/deep/1.PNG", "c.jp2", "d/3.tga"]
    for name in [*wanted, ".hidden/1.png", "b/.2.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "b/notes.txt").write_text("no image")
    ended = cli("predict", f"run={pipeline.run('vanilla')}", "exemplar=off", tmp_path)
    assert [path.removeprefix(f"{tmp_path}/") for path in answers(ended.out)] == wanted, ended


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_an_image_that_cannot_be_read_is_named(content, pipeline, tmp_path, cli):
    (tmp_path / "bad.png").write_bytes(content)
    ended = cli("predict", f"run={pipeline.run('ep')}", tmp_path / "bad.png")
    assert ended.refuses(1, "bad.png: cannot be read as an image")


def test_an_image_that_was_cut_off_is_named(pipeline, shapes, tmp_path, cli):
    content = (shapes / "test/bar/0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    assert cli("predict", f"run={pipeline.run('ep')}", tmp_path / "cut.png").refuses(1, "cut.png: cannot be read")


def test_what_is_not_there_is_a_wrong_request(pipeline, tmp_path, cli):
    run = f"run={pipeline.run('ep')}"
    assert cli("predict", run).refuses(2, "no image given")
    assert cli("predict", run, tmp_path / "absent.png").refuses(2, "absent.png: no such file or folder")
    assert cli("predict", run, tmp_path).refuses(2, "no image in this folder")
    assert cli("predict", f"run={tmp_path}", tmp_path).refuses(2, "no run there")
