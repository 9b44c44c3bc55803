"""vitask from Python: light to import, the names of the command line, and a classifier that several threads may ask."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import vitask
from vitask.config.compose import compose_config
from vitask.runs.predictor import Answers

IMPORT = """
import sys, time
before = time.process_time(); import vitask; seconds = time.process_time() - before
assert "train" in dir(vitask) and "Classifier" in dir(vitask)
print(seconds, [m for m in ("torch", "transformers", "hydra", "numpy", "PIL") if m in sys.modules])
"""


@pytest.fixture(scope="module")
def classifier(pipeline):
    return vitask.Classifier.from_pretrained(pipeline.run("crt"), "cpu")


@pytest.fixture(scope="module")
def images(shapes):
    return sorted((shapes / "test").glob("*/*.png"))


def test_the_import_is_light():
    ended = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    seconds, _, rest = ended.stdout.strip().partition(" ")
    assert rest == "[]"
    assert float(seconds) < 0.2


def test_what_is_named_is_there_and_nothing_else():
    assert all(getattr(vitask, name) is not None for name in vitask.__all__)
    assert set(vitask.__all__) <= set(dir(vitask))
    with pytest.raises(AttributeError, match="no attribute 'clasifier'"):
        _ = vitask.clasifier


def test_keywords_are_the_command_line_s_words():
    said = ["stage=ep", "seed=3", "tag=null", "overwrite=true", "optim.lr=0.001", "lora.targets=[q_proj, v_proj]"]
    options = {"seed": 3, "tag": None, "overwrite": True, "optim.lr": 1e-3, "lora.targets": ["q_proj", "v_proj"]}
    assert vitask.compose("stage=ep", **options) == compose_config("train", said)
    members = {"a": {"source": "table", "path": "it's a, b.csv"}, "b": {"source": "digits"}}
    assert vitask.compose("data=mixture", **{"data.members": members}).data.members == members
    with pytest.raises(vitask.UsageError, match="Did you mean 'seed'"):
        vitask.compose(sead=1)


def test_train_gives_the_run_folders_and_evaluate_the_metrics(own_pipeline):
    folders = vitask.train("stage=all", *own_pipeline.arguments)
    assert folders == [own_pipeline.run(stage) for stage in ("tsm", "vanilla", "ep", "crt")]
    without, with_exemplar = vitask.evaluate(run=folders[-1], generate=False)
    for mode, metrics in (("off", without), ("on", with_exemplar)):
        assert metrics == json.loads((folders[-1] / f"eval/test-{mode}/metrics.json").read_text())
        assert metrics["mode"] == mode
    with pytest.raises(vitask.VitaskError, match="is finished"):
        vitask.train("stage=ep", *own_pipeline.arguments)


@pytest.mark.parametrize("exemplar", [True, False])
def test_it_says_what_predict_says(exemplar, pipeline, classifier, images, cli):
    ended = cli("predict", f"run={pipeline.run('crt')}", f"exemplar={'on' if exemplar else 'off'}", *images)
    found = classifier.predict(images, exemplar=exemplar)
    for line, one in zip(ended.out.splitlines(), found, strict=True):
        shown = ", ".join(f"{label} {p:.3f}" for label, p in one.probabilities.items())
        assert line.endswith(f": {one.label} ({shown})")
        assert one.labels == (one.label,)
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert list(one.probabilities.values()) == sorted(one.probabilities.values(), reverse=True)


def test_paths_images_and_arrays_are_the_same_images(classifier, images):
    expected = classifier.predict(images)
    opened = [Image.open(path) for path in images]
    arrays = [np.asarray(image.convert("RGB")) for image in opened]
    assert classifier.predict([str(path) for path in images]) == expected
    assert classifier.predict(opened) == expected
    assert classifier.predict(arrays) == expected
    assert classifier.predict(np.stack(arrays)) == expected
    assert classifier.predict([array[..., 0] for array in arrays]) == expected
    assert classifier.predict([array[..., :1] for array in arrays]) == expected
    assert classifier.predict(images[0]) == classifier.predict(opened[0]) == classifier.predict(images[:1])
    assert classifier.predict([]) == []


def test_the_batch_size_changes_nothing(classifier, images):
    for one, other in zip(classifier.predict(images, batch_size=5), classifier.predict(images), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_several_threads_are_told_what_one_is_told(classifier, images):
    asked = [(images[start:], exemplar) for start in (0, 5) for exemplar in (True, False)]
    alone = [classifier.predict(some, exemplar=exemplar) for some, exemplar in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: classifier.predict(each[0], exemplar=each[1]), asked * 2))
    assert together == alone * 2


def test_what_was_asked_about_is_not_kept(classifier, images):
    classifier.predict(images)
    assert len(classifier._predictor.tsm._tables) == 0


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["absent.png"], "absent.png: no such file"),
        ([3], "expected PIL images, paths or arrays, got int"),
        ([np.zeros((8, 8, 3))], "expected uint8 arrays .* got float64"),
        ([np.zeros((8, 8, 2), np.uint8)], "expected uint8 arrays"),
        (np.zeros((8, 8, 3), np.uint8), "one array of shape"),
        (None, "got NoneType"),
        (3, "got int"),
        ("/", "is a folder; list its images"),
    ],
)
def test_what_is_no_image_is_a_wrong_request(given, text, classifier):
    with pytest.raises(vitask.UsageError, match=text):
        classifier.predict(given)


def test_a_photo_on_its_side_is_turned_as_in_training(pipeline, classifier, images, cli, tmp_path):
    """A camera stores how it was held; data sets are turned accordingly, and so are images of one's own."""
    upright = Image.open(images[0]).convert("RGB").resize((16, 16), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90).save(tmp_path / "photo.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    (wanted,) = classifier.predict(upright)
    assert classifier.predict(tmp_path / "photo.png") == [wanted]
    assert classifier.predict(Image.open(tmp_path / "photo.png")) == [wanted]
    (aside,) = classifier.predict(upright.rotate(90))
    assert aside.probabilities != wanted.probabilities
    run = f"run={pipeline.run('crt')}"
    lines = [cli("predict", run, str(tmp_path / name)).out.partition(": ")[2] for name in ("photo.png", "upright.png")]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("way", ["path", "image"])
def test_deep_images_are_refused_as_in_training(way, classifier, tmp_path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    given = tmp_path / "deep.png" if way == "path" else Image.open(tmp_path / "deep.png")
    with pytest.raises(vitask.VitaskError, match=r"more than 8 bits a channel \(mode I(;16)?\)"):
        classifier.predict(given)


def test_an_empty_image_is_refused(classifier):
    with pytest.raises(vitask.VitaskError, match="no pixels"):
        classifier.predict([np.zeros((0, 0, 3), np.uint8)])


def test_a_run_without_its_tsm_answers_without_exemplar(own_pipeline, images):
    shutil.rmtree(own_pipeline.run("tsm"))
    found = vitask.Classifier.from_pretrained(own_pipeline.run("crt"), "cpu")
    assert not found.sees_exemplar
    assert len(found.predict(images, exemplar=False)) == 12
    with pytest.raises(vitask.VitaskError, match=r"there is no finished TSM.*exemplar=False"):
        found.predict(images)


@pytest.mark.parametrize(("stage", "way"), [("tsm", "without exemplar"), ("vanilla", "without exemplar")])
def test_a_run_that_sees_no_exemplar_answers_either_way(stage, way, pipeline, images):
    found = vitask.Classifier.from_pretrained(pipeline.run(stage), "cpu")
    assert found.predict(images[:3]) == found.predict(images[:3], exemplar=False)
    assert f"{stage} on shapes, {way}; shapes: bar, dot, row" in repr(found)


def test_it_shows_what_it_is(classifier, images):
    assert (classifier.sets, classifier.labels()) == (("shapes",), ("bar", "dot", "row"))
    assert repr(classifier) == "Classifier(crt on shapes, with and without exemplar; shapes: bar, dot, row)"
    assert repr(classifier.predict(images[0])[0]).startswith("Prediction('")
    with pytest.raises(vitask.UsageError, match=r"set=bright: no such data set"):
        classifier.predict(images[0], set="bright")


@pytest.mark.parametrize("size", [0, -1, 2.5, 8.0, "8", None, float("nan")])
def test_a_batch_size_that_is_no_count_is_named(size, classifier, images):
    with pytest.raises(vitask.UsageError, match=rf"batch_size: expected a whole number of at least 1, got {size!r}"):
        classifier.predict(images[0], batch_size=size)


def test_a_batch_size_of_numpy_is_a_count(classifier, images):
    assert classifier.predict(images[:3], batch_size=np.int64(2)) == classifier.predict(images[:3], batch_size=2)


def test_several_labels_an_image_are_several_labels(images):
    said = Answers(
        ["a", "b", "c", "d"], torch.tensor([[0.9, 0.1, 0.7, 0.2], [0.1] * 4]), [(0, 2), ()], ["a, c", "none"]
    )
    fake = SimpleNamespace(
        names=["x"], sees_exemplar=False, labels=lambda number: said.labels, answer=lambda *args, **kwargs: said
    )
    first, second = vitask.Classifier(fake, "x").predict(images[:2])
    assert (first.label, first.labels, second.label, second.labels) == ("a, c", ("a", "c"), "none", ())
    assert list(first.probabilities) == ["a", "c", "d", "b"]
    assert repr(first) == "Prediction('a, c': a 0.900, c 0.700, d 0.200, ...)"


def test_a_device_that_is_not_there_is_a_wrong_request(pipeline):
    with pytest.raises(vitask.UsageError, match="device='cuba': torch has no such device here"):
        vitask.Classifier.from_pretrained(pipeline.run("crt"), "cuba")
    with pytest.raises(vitask.UsageError, match="no run there"):
        vitask.Classifier.from_pretrained(pipeline.out)
