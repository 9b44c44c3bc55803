import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vitask.config.build import build_instructions, build_task
from vitask.config.compose import compose_config
from vitask.data import label_ranges, load_digits_task
from vitask.errors import UsageError


def test_images_labels_and_ids_are_scikit_learns():
    raw, task = load_digits(), load_digits_task()
    assert task.modality == "handwritten digit"
    seen = set()
    for split in task.splits.values():
        for row in split:
            index = int(row["id"].removeprefix("digits-"))
            seen.add(index)
            assert row["image"].mode == "L"
            assert np.array_equal(np.asarray(row["image"]), np.rint(raw.images[index] * 255 / 16))
            assert row["answer"] == raw.target[index]
    assert seen == set(range(1797))


def test_split_is_stratified_and_always_the_same():
    task, again = load_digits_task(), load_digits_task()
    assert [len(split) for split in task.splits.values()] == [719, 539, 539]
    for split in task.splits.values():
        counts = np.bincount(split["answer"][:])
        assert counts.max() - counts.min() <= 5
    assert task.splits["test"]["id"][:] == again.splits["test"]["id"][:]
    assert task.fingerprint == again.fingerprint


@pytest.mark.parametrize(
    ("kind", "labels", "label_of"),
    [
        ("digits_parity", ("even number", "odd number"), lambda digit: digit % 2),
        ("digits_size", ("small", "medium", "large"), lambda digit: int(digit > 2) + int(digit > 6)),
    ],
)
def test_other_questions_about_the_same_images(kind, labels, label_of):
    plain, task = load_digits_task(), load_digits_task(kind)
    assert (task.name, task.labels, task.ordinal, task.multi_label) == (kind, labels, kind == "digits_size", False)
    for split in task.splits:
        for row, same in zip(task.splits[split], plain.splits[split], strict=True):
            assert row["image"].tobytes() == same["image"].tobytes()
            assert row["answer"] == label_of(same["answer"])


def test_pairs_hold_two_different_digits_of_one_split():
    plain, task = load_digits_task(), load_digits_task("digits_pairs")
    assert (task.multi_label, task.labels, task.candidates) == (True, plain.labels, 45)
    assert task.audit.across == {}
    for split, rows in task.splits.items():
        digit_of = {np.asarray(row["image"]).tobytes(): row["answer"] for row in plain.splits[split]}
        places = []
        for row in rows:
            pixels = np.asarray(row["image"])
            assert pixels.shape == (16, 16)
            assert not pixels[:4].any()
            assert not pixels[12:].any()
            left, right = (digit_of[pixels[4:12, columns].tobytes()] for columns in (slice(8), slice(8, 16)))
            assert left != right
            assert task.answers[row["answer"]].labels == tuple(sorted((left, right)))
            places.append(left < right)
        assert 0.4 < np.mean(places) < 0.6
        assert len(rows) == len(plain.splits[split])
    assert task.fingerprint == load_digits_task("digits_pairs").fingerprint


def test_four_sets_of_four_kinds_make_a_mixture(tmp_path):
    config = compose_config("train", ["data=digits4"])
    task = build_task(config.data, 0, str(tmp_path))
    assert [member.name for member in task.members] == list(config.data.members)
    assert [len(own) for own in label_ranges(task)] == [10, 2, 3, 10]
    assert len(task.labels) == 25, "ten digits of one label an image are not those of several"
    assert len(set(build_instructions(config.data, task))) == 4
    assert build_task(compose_config("train", ["data=digits_pairs"]).data, 0, str(tmp_path)).name == "digits_pairs"
    with pytest.raises(UsageError, match="there is no kind of digits 'digits_pair'"):
        load_digits_task("digits_pair")


def test_importing_the_room_is_light():
    code = (
        "import sys, vitask.data; "
        "print({'torch', 'transformers', 'timm', 'datasets', 'sklearn', 'medmnist', 'PIL'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
